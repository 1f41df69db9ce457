"""Deadlines of database operations that hold even if the server does not respond at all."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen

Result = TypeVar("Result")
MIN_WAIT_S = 0.05
_DEADLINE: ContextVar[float | None] = ContextVar("deadline", default=None)
"""Time of `time.monotonic` until which the transactions of the current task wait for the server; None: unlimited."""


@contextmanager
def deadline(timeout_s: float) -> Iterator[None]:
    """Limits the time that connections of this task wait for the server while the block runs."""
    token = _DEADLINE.set(time.monotonic() + timeout_s)
    try:
        yield
    finally:
        _DEADLINE.reset(token)


class DeadlineConnection(psycopg.AsyncConnection[Any]):
    """A connection that closes itself when the server has not responded until the deadline.

    The server enforces `statement_timeout`, but a server that is suspended or unreachable enforces nothing.
    """

    async def wait(self, gen: PQGen[Result], interval: float = 0.1, timeout: float | None = None) -> Result:  # noqa: ASYNC109
        """Waits for the server like the base class. Raises psycopg.OperationalError at the deadline."""
        until = _DEADLINE.get()
        if until is None or timeout is not None:
            return await super().wait(gen, interval, timeout)
        try:
            return await super().wait(gen, interval, max(until - time.monotonic(), MIN_WAIT_S))
        except psycopg.errors._WaitTimeout:
            self.pgconn.finish()  # the state of the connection is unknown
            raise psycopg.OperationalError("the server did not respond within the time limit") from None
