"""Sends requests and classifies their outcomes."""

import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import httpx

TIMEOUT_S = 60.0
PAUSE_S = 0.1
"""Pause after a request that the service has not processed, so that clients do not spin while a process starts."""
RETRY_FOR_S = 90.0


class Outcome(StrEnum):
    ACKNOWLEDGED = "acknowledged"
    CONFLICT = "409 conflict"
    UNAVAILABLE = "503 unavailable"
    BROKEN = "connection broke"
    NOT_SENT = "not sent"
    """The connection could not be opened, so the request has no effect."""
    UNEXPECTED = "unexpected status"

    @property
    def is_unknown(self) -> bool:
        """True if the request may or may not have taken effect."""
        return self in {Outcome.UNAVAILABLE, Outcome.BROKEN, Outcome.UNEXPECTED}


@dataclass(frozen=True)
class Reply:
    outcome: Outcome
    status: int | None
    body: dict[str, Any]


class Statistics:
    """Counts requests by operation and outcome, from several threads."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, Outcome]] = Counter()
        self._lock = threading.Lock()

    def add(self, operation: str, outcome: Outcome) -> None:
        with self._lock:
            self.counts[operation, outcome] += 1


class Client:
    """Sends the requests of one thread.

    Args:
        violate: called with a description if a status is returned that no outage explains.
        stopped: set when the phase ends.
    """

    def __init__(
        self, url: str, statistics: Statistics, violate: Callable[[str], None], stopped: threading.Event
    ) -> None:
        self.http = httpx.Client(base_url=url, timeout=TIMEOUT_S)
        self.violate, self.stopped = violate, stopped
        self._statistics = statistics

    def send(self, operation: str, method: str, path: str, allowed: tuple[int, ...] = (), **options: Any) -> Reply:
        """Sends one request. `allowed`: further statuses that count as acknowledged."""
        reply = self._send(operation, method, path, allowed, options)
        self._statistics.add(operation, reply.outcome)
        if reply.outcome in {Outcome.NOT_SENT, Outcome.UNAVAILABLE, Outcome.BROKEN}:
            time.sleep(PAUSE_S)
        return reply

    def insist(self, operation: str, method: str, path: str, allowed: tuple[int, ...] = (), **options: Any) -> Reply:
        """Repeats a request until the service acknowledges or refuses it, for up to 90 seconds."""
        deadline = time.monotonic() + RETRY_FOR_S
        while True:
            reply = self.send(operation, method, path, allowed, **options)
            settled = reply.outcome in {Outcome.ACKNOWLEDGED, Outcome.CONFLICT, Outcome.UNEXPECTED}
            if settled or time.monotonic() > deadline:
                return reply

    def _send(self, operation: str, method: str, path: str, allowed: tuple[int, ...], options: dict[str, Any]) -> Reply:
        try:
            response = self.http.request(method, path, **options)
            body = response.json() if response.content else {}
        except (httpx.ConnectError, httpx.ConnectTimeout):
            return Reply(Outcome.NOT_SENT, None, {})
        except (httpx.TransportError, ValueError):
            return Reply(Outcome.BROKEN, None, {})
        if response.is_success or response.status_code in allowed:
            return Reply(Outcome.ACKNOWLEDGED, response.status_code, body)
        if response.status_code == 409:
            return Reply(Outcome.CONFLICT, 409, body)
        if response.status_code == 503:
            return Reply(Outcome.UNAVAILABLE, 503, body)
        problem = f"{body.get('code')}: {body.get('detail')}"
        self.violate(f"{operation}: {method} {path} returned {response.status_code} ({problem})")
        return Reply(Outcome.UNEXPECTED, response.status_code, body)


def new_key() -> dict[str, str]:
    """Returns a header with a new idempotency key."""
    return {"Idempotency-Key": str(uuid.uuid4())}
