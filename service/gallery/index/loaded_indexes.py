"""The indexes that one process has in memory, within a limit of bytes."""

import logging
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field

from service.gallery.index.field_requests import FieldRequests
from service.gallery.index.fields import Path
from service.gallery.index.index_table import FieldValues
from service.gallery.index.memory_index import MemoryIndex
from service.gallery.index.snapshots import Snapshot
from service.telemetry.metrics import (
    MEMORY_INDEX_AGE,
    MEMORY_INDEX_BYTES,
    MEMORY_INDEX_EVICTIONS,
    MEMORY_INDEX_IDENTITIES,
)

Key = tuple[uuid.UUID, str]
MIN_UNUSED_S = 30.0
"""An index that was searched within this time is not evicted for another one, which would soon evict it in turn."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class LoadedIndex:
    """An index, when it was used last, and the fields that have been read for it since the last refresh."""

    index: MemoryIndex
    used_at: float
    requests: FieldRequests = field(default_factory=FieldRequests)
    read_fields: dict[Path, tuple[FieldValues, Snapshot]] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Its memory in bytes."""
        return self.index.size + len(self.read_fields) * self.index.bytes_of_field


class LoadedIndexes(dict[Key, LoadedIndex]):
    """The indexes by collection and model.

    Args:
        max_bytes: maximum memory of all indexes together.
    """

    def __init__(self, max_bytes: int) -> None:
        super().__init__()
        self.max_bytes = max_bytes

    @property
    def used_bytes(self) -> int:
        return sum(item.size for item in self.values())

    def make_room(self, needed: int) -> bool:
        """Evicts the indexes that were unused for the longest time; returns False if too much is in use."""
        free = self.max_bytes - self.used_bytes
        unused_since = time.monotonic() - MIN_UNUSED_S
        by_use = sorted(self.items(), key=lambda pair: pair[1].used_at)
        evicted = []
        for key, item in by_use:
            if free >= needed or item.used_at > unused_since:
                break
            evicted.append(key)
            free += item.size
        if free < needed:
            return False
        for key in evicted:
            self.drop(key, "another collection needs the memory")
            MEMORY_INDEX_EVICTIONS.inc()
        return True

    def evict_excess(self) -> None:
        """Evicts indexes until the memory suffices for the others, which have grown."""
        while self.used_bytes > self.max_bytes:
            self.drop(min(self, key=lambda key: self[key].used_at), "the memory for indexes is exhausted")
            MEMORY_INDEX_EVICTIONS.inc()

    def drop(self, key: Key, reason: str) -> None:
        """Removes an index, if it is loaded."""
        if self.pop(key, None) is not None:
            log.info("the index of collection %s is removed from memory: %s", key[0], reason)

    def by_server(self) -> list[dict[Key, LoadedIndex]]:
        """Returns the indexes that can be refreshed together: all, but on Citus those of one collection."""
        groups: dict[uuid.UUID | None, dict[Key, LoadedIndex]] = {}
        for key, item in self.items():
            is_node = item.index.state.snapshot.server.is_node
            groups.setdefault(key[0] if is_node else None, {})[key] = item
        return list(groups.values())

    def missing_fields(self) -> Iterator[tuple[Key, LoadedIndex, Path]]:
        """Yields the fields that filters have used and that are not in memory, as far as memory suffices."""
        for key, item in list(self.items()):
            for path in item.requests.wanted - item.index.state.table.fields.keys() - item.read_fields.keys():
                if self.used_bytes + item.index.bytes_of_field <= self.max_bytes:
                    yield key, item, path

    def measure(self) -> None:
        """Updates the metrics."""
        indexes = [item.index for item in self.values()]
        MEMORY_INDEX_IDENTITIES.set(sum(index.people for index in indexes))
        MEMORY_INDEX_BYTES.set(self.used_bytes)
        now = time.time()
        oldest = min((index.state.snapshot.taken_at.timestamp() for index in indexes), default=now)
        MEMORY_INDEX_AGE.set(max(0.0, now - oldest))
