"""Starts the processes that the requests are sent to: two APIs on one embedded PostgreSQL, and a worker."""

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from service.inference.wire import MODELS_HEADER

START_S = 120.0
STOP_S = 60.0
TRACEBACK = b"Traceback (most recent call last)"


@dataclass
class Process:
    """A process of the service. `restarts` counts how often it ended unexpectedly."""

    name: str
    command: list[str]
    environment: dict[str, str]
    log: Path
    port: int
    headers: dict[str, str] = field(default_factory=dict)
    restarts: int = 0

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        with self.log.open("ab") as output:
            command = [sys.executable, "-m", "service", *self.command, "--port", str(self.port)]
            environment = os.environ | self.environment
            self._process = subprocess.Popen(
                command, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )

    def wait_until_ready(self) -> None:
        """Raises RuntimeError if the process ends or is not ready in time."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/readyz", headers=self.headers, timeout=10).status_code == 200:
                    return
            time.sleep(0.1)
        raise RuntimeError(f"{self.name} did not start; its log is {self.log}")

    def crash_status(self) -> int | None:
        """Returns the exit status and starts the process again if it has ended; otherwise None."""
        if (status := self._process.poll()) is None:
            return None
        self.restarts += 1
        self.start()
        self.wait_until_ready()
        return status

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def tracebacks(self) -> int:
        """Returns the number of uncaught exceptions in the log."""
        return self.log.read_bytes().count(TRACEBACK)


@dataclass(frozen=True)
class Services:
    """Running processes.

    Attributes:
        open: an API that requires no key; its models run in its own process.
        guarded: an API that requires a key and sends pictures to the worker.
        key: secret of a key with all scopes.
    """

    open: Process
    guarded: Process
    worker: Process
    key: str

    @property
    def processes(self) -> tuple[Process, Process, Process]:
        return self.open, self.guarded, self.worker


@contextlib.contextmanager
def running_services(folder: Path) -> Iterator[Services]:
    """Starts all processes with their data and logs in a folder, and yields them when they are ready."""
    token = secrets.token_hex(16)
    (folder / "service.yaml").touch()
    environment = {
        "REGISTRY_DATA_DIR": str(folder),
        "REGISTRY_CONFIG": str(folder / "service.yaml"),
        "REGISTRY_INFERENCE__WORKER_TOKEN": token,
        "REGISTRY_LIMITS__MAX_BODY_BYTES": str(8 * 1024**2),
    }
    worker = Process("worker", ["worker"], environment, folder / "worker.log", _free_port())
    worker.headers = {"authorization": f"Bearer {token}"}
    first = Process("open API", ["serve"], environment, folder / "open.log", _free_port())
    remote = {"REGISTRY_SERVER__REQUIRE_KEYS": "true", "REGISTRY_INFERENCE__WORKER_URL": worker.url}
    guarded = Process("guarded API", ["serve"], environment | remote, folder / "guarded.log", _free_port())
    with contextlib.ExitStack() as stack:
        for process in (worker, first):
            process.start()
            stack.callback(process.stop)
        first.wait_until_ready()
        worker.wait_until_ready()
        models = httpx.get(f"{worker.url}/readyz", headers=worker.headers, timeout=10).json()["models"]
        worker.headers[MODELS_HEADER] = models
        guarded.start()
        stack.callback(guarded.stop)
        key = _new_key(environment)
        guarded.wait_until_ready()
        yield Services(first, guarded, worker, key)


def _new_key(environment: dict[str, str]) -> str:
    command = [sys.executable, "-m", "service", "keys", "create", "--name", "fuzzer"]
    result = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=True)
    return result.stdout.strip().splitlines()[-1]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
