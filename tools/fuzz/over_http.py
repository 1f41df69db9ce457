"""Sends generated requests to running processes and counts the statuses of the responses."""

import time
from collections.abc import Callable

import httpx
from hypothesis import HealthCheck, Phase, given
from hypothesis import seed as hypothesis_seed
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tools.fuzz import protocol, raw_http
from tools.fuzz.connection import RESPONSE_S, send
from tools.fuzz.findings import Findings
from tools.fuzz.operations import operations_of
from tools.fuzz.pool import Pool
from tools.fuzz.requests import RequestBuilder, rng_of
from tools.fuzz.services import Process, Services

ROUND = 200
"""Number of requests that Hypothesis generates at a time. Its generator becomes slower with every example."""
INCOMPLETE_S = 0.3
"""Waiting time for the response to a request that may be incomplete, so that the service waits for its end."""
WITHOUT_KEY = 4
"""One of this many requests goes to the API that requires no key."""


class HttpRun:
    """Sends requests until their number or a deadline is reached.

    Args:
        advance: is called after every request, with the name of the section.
    """

    def __init__(self, services: Services, findings: Findings, seed: int, advance: Callable[[str], None]) -> None:
        self._services, self._findings, self._seed, self._advance = services, findings, seed, advance

    def requests(self, name: str, count: int, deadline: float | None) -> None:
        """Sends requests that Hypothesis builds from the OpenAPI document."""
        document = httpx.get(f"{self._services.guarded.url}/openapi.json", timeout=60).json()
        operations = operations_of(document)
        for number in range(0, count, ROUND):
            process = self._services.guarded if number // ROUND % WITHOUT_KEY else self._services.open
            pool = Pool()
            with httpx.Client(base_url=process.url, headers={"x-api-key": self._services.key}, timeout=60) as client:
                pool.fill(client)
            builder = RequestBuilder(operations, pool, self._services.key)
            requests = builder.requests(_host(process), process is self._services.guarded)
            self._send_round(name, process, requests, min(ROUND, count - number), number)
            if past(deadline):
                return

    def _send_round(
        self, name: str, process: Process, requests: st.SearchStrategy[tuple[str, bytes]], count: int, number: int
    ) -> None:
        @hypothesis_seed(self._seed * 1_000_003 + number)
        @hypothesis_settings(
            max_examples=count,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(requests)
        def send_each(request: tuple[str, bytes]) -> None:
            self._send(name, process, request[1], request[0], RESPONSE_S)

        send_each()

    def raw(self, name: str, count: int, deadline: float | None) -> None:
        """Sends requests with errors in the HTTP syntax to the three processes."""
        processes = self._services.processes
        for number in range(count):
            process = processes[number % len(processes)]
            data = raw_http.make(rng_of(self._seed, "raw", number), _host(process), self._services.key)
            self._send(name, process, data, f"{process.name} number {number}", INCOMPLETE_S)
            if past(deadline):
                return

    def protocol(self, name: str, count: int, deadline: float | None) -> None:
        """Sends MessagePack bodies to the worker."""
        worker = self._services.worker
        for number in range(count):
            rng = rng_of(self._seed, "protocol", number)
            data = protocol.make(rng, _host(worker), worker.headers, self._seed, number)
            self._send(name, worker, data, f"number {number}", RESPONSE_S)
            if past(deadline):
                return

    def logs(self, name: str) -> None:
        """Counts uncaught exceptions in the logs of the processes: tasks in the background have no response."""
        for process in self._services.processes:
            tracebacks = process.tracebacks()
            self._findings.count(name, process.name, 0, "")
            if tracebacks:
                self._findings.section(name).exceptions += tracebacks
                problem = f"the log of the {process.name} contains {tracebacks} tracebacks"
                self._findings.store(name, problem, process.log.name, process.log.read_bytes())

    def crashed(self, name: str, process: Process, data: bytes, description: str) -> bool:
        """Counts a crash and starts the process again if it has ended. Returns True if it had."""
        status = process.crash_status()
        if status is not None:
            self._findings.section(name).crashes += 1
            self._findings.store(name, f"the {process.name} ended with status {status}", description, data)
        return status is not None

    def _send(self, name: str, process: Process, data: bytes, description: str, wait_s: float) -> None:
        try:
            status, seconds = send(process.address, data, wait_s)
        except ConnectionRefusedError:
            time.sleep(0.2)
            self.crashed(name, process, data, description)
            status, seconds = None, 0.0
        if status is None and wait_s == RESPONSE_S:
            self.crashed(name, process, data, description)
        self._findings.respond(name, status, seconds, data, description)
        self._advance(name)


def past(deadline: float | None) -> bool:
    return deadline is not None and time.monotonic() > deadline


def _host(process: Process) -> str:
    return f"{process.address[0]}:{process.port}"
