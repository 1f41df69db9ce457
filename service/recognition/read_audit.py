"""Buffers audit events of read operations and writes them in batches.

Searches therefore do not contend for the lock of the audit chain's head.
"""

import asyncio
import logging
from collections import deque
from dataclasses import dataclass

from service.errors import CollectionNotFound, DatabaseUnavailable
from service.gallery.access.audit_entries import SERVICE, Action, Event
from service.gallery.access.audit_trail import AuditTrail
from service.gallery.people import collections
from service.gallery.people.collections import DEFAULT
from service.gallery.storage.database import Database

FLUSH_INTERVAL_S = 0.5
MAX_BUFFERED = 20_000
BATCH = 1000
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _BufferedEvent:
    collection: str
    event: Event


class ReadAuditBuffer:
    """Collects the events of verifications and searches; writes them twice a second and when the service stops.

    A killed process loses the events of the last half second. While the database is unreachable, up to 20,000 events
    wait; the oldest are dropped, and an entry records their number.
    """

    def __init__(self, database: Database, audit_trail: AuditTrail) -> None:
        self._database, self._audit_trail = database, audit_trail
        self._enabled = audit_trail.enabled
        self._buffer: deque[_BufferedEvent] = deque()
        self._dropped: dict[str, int] = {}

    def record(self, collection: str, event: Event) -> None:
        """Adds an event about a collection to the buffer."""
        if not self._enabled:
            return
        if len(self._buffer) >= MAX_BUFFERED:
            oldest = self._buffer.popleft().collection
            self._dropped[oldest] = self._dropped.get(oldest, 0) + 1
        self._buffer.append(_BufferedEvent(collection, event))

    async def run(self) -> None:
        """Writes the buffer at intervals until the task is cancelled."""
        while True:
            await asyncio.sleep(FLUSH_INTERVAL_S)
            try:
                await self.flush()
            except DatabaseUnavailable as error:
                log.warning("%d audit events wait for the database: %s", len(self._buffer), error.detail)
            except Exception:
                log.exception("the audit events of read operations could not be written")

    async def flush(self) -> None:
        """Writes the buffered events, one transaction for each collection.

        Raises:
            DatabaseUnavailable: the events that were not written remain in the buffer.
        """
        while self._buffer or self._dropped:
            batch = [self._buffer.popleft() for _ in range(min(BATCH, len(self._buffer)))]
            names = sorted({item.collection for item in batch} | set(self._dropped))
            for done, name in enumerate(names):
                dropped = self._dropped.pop(name, 0)
                try:
                    await self._write(name, dropped, [item.event for item in batch if item.collection == name])
                except BaseException:
                    unwritten = set(names[done:])
                    self._buffer.extendleft(reversed([item for item in batch if item.collection in unwritten]))
                    if dropped:
                        self._dropped[name] = dropped + self._dropped.get(name, 0)
                    raise

    async def _write(self, name: str, dropped: int, events: list[Event]) -> None:
        if dropped:
            events = [Event(Action.EVENTS_LOST, SERVICE, details={"entries": dropped}), *events]
        async with self._database.transaction() as connection:
            try:
                collection = await collections.get(connection, name)
            except (
                CollectionNotFound
            ):  # deleted since, or named by a comparison of two pictures, which does not read it
                collection = await collections.get(connection, DEFAULT)
            await self._audit_trail.append(connection, collection.id, events)
