"""Schemathesis sends requests that conform to the OpenAPI document, and requests that violate it in one place."""

import time
from typing import Any

import httpx
import schemathesis
from hypothesis import HealthCheck, Phase, given
from hypothesis import seed as hypothesis_seed
from hypothesis import settings as hypothesis_settings
from hypothesis.errors import HypothesisException
from schemathesis import Case, GenerationMode
from schemathesis.core.result import Ok

from tools.fuzz import zip_bodies  # noqa: F401  registers their serializer
from tools.fuzz.findings import Findings
from tools.fuzz.over_http import HttpRun, past
from tools.fuzz.services import Services

EXAMPLES = 8
"""Number of requests to an operation before the next one."""


class SchemaRun:
    """Sends requests of Schemathesis to the API that requires a key."""

    def __init__(self, services: Services, findings: Findings, seed: int, run: HttpRun) -> None:
        self._services, self._findings, self._seed, self._run = services, findings, seed, run
        document = httpx.get(f"{services.guarded.url}/openapi.json", timeout=60).json()
        results = schemathesis.openapi.from_dict(document).get_all_operations()
        self._operations = [item.ok() for item in results if isinstance(item, Ok)]

    def send(self, name: str, count: int, deadline: float | None, advance: Any) -> None:
        """Sends at least `count` requests, operation by operation, unless the deadline passes."""
        section, turn = self._findings.section(name), 0
        while section.tried < count:
            operation = self._operations[turn % len(self._operations)]
            mode = list(GenerationMode)[turn // len(self._operations) % 2]
            before = section.tried
            self._send_to(name, operation, mode, turn, min(EXAMPLES, count - before))
            advance(section.tried - before)
            turn += 1
            if past(deadline):
                return

    def _send_to(self, name: str, operation: Any, mode: GenerationMode, turn: int, examples: int) -> None:
        @hypothesis_seed(self._seed * 1_000_003 + turn)
        @hypothesis_settings(
            max_examples=examples,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def send(case: "Case[Any]") -> None:
            self._send(name, operation.label, case)

        try:
            send()
        except HypothesisException:  # The operation has no part that the mode could violate.
            return

    def _send(self, name: str, label: str, case: "Case[Any]") -> None:
        guarded = self._services.guarded
        headers = {"X-API-Key": self._services.key}
        started = time.perf_counter()
        status: int | None = None
        try:
            status = case.call(base_url=guarded.url, headers=headers, timeout=30).status_code
        except (OSError, ValueError):  # The library refuses to send the request, or the connection broke.
            self._run.crashed(name, guarded, label.encode(), label)
        command = b""
        if status is not None and status >= 500:
            command = case.as_curl_command(headers=headers).encode("utf-8", "backslashreplace")
        self._findings.respond(name, status, time.perf_counter() - started, command, label)
