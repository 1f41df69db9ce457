"""What was only looked at, written down a little later: a search must not wait for the end of the audit chain."""

import asyncio
import logging
from collections import deque
from dataclasses import dataclass

from service.errors import CollectionNotFound, DatabaseUnavailable
from service.gallery.access.audit import SERVICE, Action, Event, AuditTrail
from service.gallery.people import collections
from service.gallery.people.collections import DEFAULT
from service.gallery.storage.database import Database

EVERY_S = 0.5
MOST_KEPT = 20_000
AT_ONCE = 1000
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Read:
    collection: str
    event: Event


class ReadAuditBuffer:
    """Collects what verified and searched, and writes it down in batches; twice a second, and when it is closed.

    A process that is killed takes the last half second along. While the database is away entries wait, up to 20,000;
    how many had to be given up then is an entry itself.
    """

    def __init__(self, database: Database, trail: AuditTrail) -> None:
        self._database, self._trail = database, trail
        self._waiting: deque[_Read] = deque()
        self._lost: dict[str, int] = {}

    def note(self, collection: str, event: Event) -> None:
        """Keep an event about a collection."""
        if not self._trail.enabled:
            return
        if len(self._waiting) >= MOST_KEPT:
            dropped = self._waiting.popleft().collection
            self._lost[dropped] = self._lost.get(dropped, 0) + 1
        self._waiting.append(_Read(collection, event))

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                await self.flush()
            except DatabaseUnavailable as error:
                log.warning("%d audit entries wait: %s", len(self._waiting), error.detail)
            except Exception:
                log.exception("audit entries could not be written")

    async def flush(self) -> None:
        """Write down what waits, collection by collection.

        Raises:
            DatabaseUnavailable: what was not written waits on, and nothing else does.
        """
        while self._waiting or self._lost:
            portion = [self._waiting.popleft() for _ in range(min(AT_ONCE, len(self._waiting)))]
            names = sorted({read.collection for read in portion} | set(self._lost))
            for done, name in enumerate(names):
                lost = self._lost.pop(name, 0)
                try:
                    await self._write(name, lost, [read.event for read in portion if read.collection == name])
                except BaseException:
                    left = set(names[done:])
                    self._waiting.extendleft(reversed([read for read in portion if read.collection in left]))
                    if lost:
                        self._lost[name] = lost + self._lost.get(name, 0)
                    raise

    async def _write(self, name: str, lost: int, events: list[Event]) -> None:
        if lost:
            events = [Event(Action.LOST, SERVICE, details={"entries": lost}), *events]
        async with self._database.transaction() as connection:
            try:
                collection = await collections.get(connection, name)
            except CollectionNotFound:  # deleted meanwhile, or there never was one: two pictures need none
                collection = await collections.get(connection, DEFAULT)
            await self._trail.append(connection, collection.id, events)
