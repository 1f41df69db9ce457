"""Divides the connections of a pool among API keys, so that one key's slow queries do not delay other keys."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from uuid import UUID

CALLER: ContextVar[UUID | None] = ContextVar("caller", default=None)
"""The API key on whose behalf the current task reads the database; None: the service itself."""


class ConnectionShares:
    """Limits the connections that one API key uses at the same time; further transactions of the key wait."""

    def __init__(self, connections: int) -> None:
        self._connections = connections
        self._semaphores: dict[UUID, tuple[asyncio.Semaphore, int]] = {}

    @asynccontextmanager
    async def share(self, timeout_s: float) -> AsyncIterator[None]:
        """Waits for a connection of the caller's share. Raises TimeoutError after `timeout_s` seconds."""
        caller = CALLER.get()
        if caller is None:
            yield
            return
        semaphore, users = self._semaphores.get(caller, (asyncio.Semaphore(self._connections), 0))
        self._semaphores[caller] = semaphore, users + 1
        try:
            async with asyncio.timeout(timeout_s):
                await semaphore.acquire()
            try:
                yield
            finally:
                semaphore.release()
        finally:
            semaphore, users = self._semaphores.pop(caller)
            if users > 1:
                self._semaphores[caller] = semaphore, users - 1
