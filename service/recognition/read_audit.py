"""Buffers audit events of read operations and writes them in batches.

Searches therefore do not contend for the lock of the audit chain's head.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from service.errors import CollectionNotFound, DatabaseUnavailable, DuplicatePerson, InvalidRequest, RegistryError
from service.gallery.access.audit_entries import SERVICE, Action, Actor, Event
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
        self._flushing = asyncio.Lock()

    def record(self, collection: str, event: Event) -> None:
        """Adds an event about a collection to the buffer."""
        if not self._enabled:
            return
        if len(self._buffer) >= MAX_BUFFERED:
            oldest = self._buffer.popleft().collection
            self._dropped[oldest] = self._dropped.get(oldest, 0) + 1
        self._buffer.append(_BufferedEvent(collection, event))

    @contextmanager
    def rejections(self, collection: str, action: Action, actor: Actor) -> Iterator[None]:
        """Records an event if the block refuses the request because of its content, such as a probe without a face."""
        try:
            yield
        except (InvalidRequest, DuplicatePerson) as error:
            self.record_rejection(collection, action, actor, error)
            raise

    def record_rejection(self, collection: str, action: Action, actor: Actor, error: RegistryError) -> None:
        """Adds an event about a request that was refused because of its content."""
        self.record(collection, Event(action, actor, details={"rejected": error.code}))

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
        """Writes the events that were recorded before the call, one transaction for each collection.

        A collection whose events cannot be written does not prevent those of the others.

        Raises:
            DatabaseUnavailable: the events that were not written remain in the buffer.
        """
        async with self._flushing:  # a second call must wait for the events that the first one is writing
            failed: set[str] = set()
            error: Exception | None = None
            while batch := self._next_batch(failed):
                name, events, dropped = batch
                try:
                    await self._write(name, dropped, events)
                except BaseException as problem:
                    self._put_back(name, events, dropped)
                    if not isinstance(problem, Exception):
                        raise
                    failed.add(name)
                    error = error or problem
            if error is not None:
                raise error

    def _next_batch(self, failed: set[str]) -> tuple[str, list[Event], int] | None:
        """Removes up to `BATCH` events of one collection, and its number of dropped events; None: there are none."""
        names = [item.collection for item in self._buffer] + list(self._dropped)
        name = next((item for item in names if item not in failed), None)
        if name is None:
            return None
        events = [item.event for item in self._buffer if item.collection == name][:BATCH]
        taken = set(map(id, events))
        self._buffer = deque(item for item in self._buffer if id(item.event) not in taken)
        return name, events, self._dropped.pop(name, 0)

    def _put_back(self, name: str, events: list[Event], dropped: int) -> None:
        self._buffer.extendleft(reversed([_BufferedEvent(name, event) for event in events]))
        if dropped:
            self._dropped[name] = dropped + self._dropped.get(name, 0)

    async def _write(self, name: str, dropped: int, events: list[Event]) -> None:
        if dropped:
            events = [Event(Action.EVENTS_LOST, SERVICE, details={"entries": dropped}), *events]
        async with self._database.transaction() as connection:
            try:
                collection = await collections.get(connection, name)
            except CollectionNotFound:  # deleted since, or a comparison of two pictures, which does not read it
                collection = await collections.get(connection, DEFAULT)
            await self._audit_trail.append(connection, collection.id, events)
