"""Keeps indexes of the most recently searched collections in memory, and applies changes of the database to them."""

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
import psycopg
from sqlalchemy import text

from service.errors import DatabaseUnavailable
from service.gallery.index import centroid_stream, snapshots
from service.gallery.index.filter_shares import FilterShares
from service.gallery.index.index_table import Bytes, Near
from service.gallery.index.loading import Loader
from service.gallery.index.memory_index import MemoryIndex, State
from service.gallery.index.snapshots import Snapshot
from service.gallery.storage import row_security
from service.gallery.storage.database import BACKGROUND_S, Database
from service.telemetry.metrics import (
    MEMORY_INDEX_AGE,
    MEMORY_INDEX_BYTES,
    MEMORY_INDEX_EVICTIONS,
    MEMORY_INDEX_IDENTITIES,
    MEMORY_INDEX_LOADS,
)

Floats = npt.NDArray[np.float32]
Key = tuple[uuid.UUID, str]
REFRESH_S = 0.25
"""Time between two refreshes in seconds. A deleted identity leaves the memory after this time."""
RETRY_S = 10.0
"""Time until a failed load is tried again."""
MIN_UNUSED_S = 30.0
"""An index that was searched within this time is not evicted for another one, which would soon evict it in turn."""
SEARCH_THREADS = 4

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Loaded:
    index: MemoryIndex
    used_at: float


class MemoryIndexes:
    """The indexes of one process. Searches use SQL for collections without an index.

    Args:
        max_bytes: maximum memory of all indexes together; 0: no indexes.

    Attributes:
        shares: how many identities fulfil the filters of recent searches.
    """

    def __init__(self, database: Database, max_bytes: int) -> None:
        self.shares = FilterShares()
        self._database = database
        self._max_bytes = max_bytes
        self._loaded: dict[Key, _Loaded] = {}
        self._wanted: dict[Key, int] = {}
        self._retry_at: dict[Key, float] = {}
        self._loader = Loader(database)
        self._executor = ThreadPoolExecutor(SEARCH_THREADS, "search", lambda: faiss.omp_set_num_threads(1))

    def use(self, collection_id: uuid.UUID, model_id: str, people: int, dim: int) -> MemoryIndex | None:
        """Returns the index of a collection, or None and loads it in the background if memory allows.

        Args:
            people, dim: size of the collection and number of dimensions of the model.
        """
        key = collection_id, model_id
        if (loaded := self._loaded.get(key)) is not None:
            loaded.used_at = time.monotonic()
            return loaded.index
        if MemoryIndex.bytes_of(people, dim) <= self._max_bytes and time.monotonic() >= self._retry_at.get(key, 0.0):
            self._wanted[key] = MemoryIndex.bytes_of(people, dim)
        return None

    def find(self, collection_id: uuid.UUID, model_id: str) -> MemoryIndex | None:
        """Returns the index of a collection if it is loaded."""
        loaded = self._loaded.get((collection_id, model_id))
        return None if loaded is None else loaded.index

    async def nearest(
        self,
        index: MemoryIndex,
        state: State,
        probes: Sequence[Floats],
        count: int,
        within: Bytes | None = None,
        by_code: int = 0,
    ) -> list[Near]:
        """Returns up to `count` nearest identities for each (dim,) probe.

        Args:
            within: (n, 16) ids of the identities to compare; None: all.
            by_code: at least so many are selected by their codes and compared by their embeddings.
        """

        def search(part: Sequence[Floats]) -> list[Near]:
            if within is None:
                return [index.nearest(state, probe, count, by_code) for probe in part]
            return [index.nearest_of(state, within, probe, count) for probe in part]

        size = -(-len(probes) // SEARCH_THREADS)
        parts = [probes[start : start + size] for start in range(0, len(probes), size)]
        return [near for part in await asyncio.gather(*(self._run(search, part) for part in parts)) for near in part]

    async def run(self) -> None:
        """Loads wanted indexes and refreshes the loaded ones until it is cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._refresh_repeatedly())
                tasks.create_task(self._load_repeatedly())
        finally:
            self._loader.stop()
            self._executor.shutdown(wait=False, cancel_futures=True)

    async def refresh(self) -> None:
        """Applies all changes that were committed before this call. Drops indexes that cannot follow the database.

        Raises:
            DatabaseUnavailable: a server does not respond. The indexes of the other servers are refreshed.
        """
        unavailable: DatabaseUnavailable | None = None
        for loaded in self._by_server():
            try:
                await self._refresh(loaded)
            except DatabaseUnavailable as error:
                unavailable = error
        while self._used_bytes() > self._max_bytes:  # indexes have grown
            key = min(self._loaded, key=lambda key: self._loaded[key].used_at)
            self._drop(key, "the memory for indexes is exhausted")
            MEMORY_INDEX_EVICTIONS.inc()
        if unavailable is not None:
            raise unavailable

    def _by_server(self) -> list[dict[Key, _Loaded]]:
        """Returns the indexes that can be refreshed together: all, but on Citus those of one collection."""
        groups: dict[uuid.UUID | None, dict[Key, _Loaded]] = {}
        for key, item in self._loaded.items():
            is_node = item.index.state.snapshot.server.is_node
            groups.setdefault(key[0] if is_node else None, {})[key] = item
        return list(groups.values())

    async def _refresh(self, loaded: dict[Key, _Loaded]) -> None:
        oldest = min((item.index.state.snapshot for item in loaded.values()), key=Snapshot.position)
        async with self._database.transaction(timeout_s=BACKGROUND_S) as connection:
            await connection.execute(text(snapshots.BEGIN))
            await row_security.allow_all_collections(connection)
            current = await snapshots.current(connection, next(iter(loaded))[0])
            for key in [key for key, item in loaded.items() if not item.index.state.snapshot.precedes(current)]:
                self._drop(key, "its snapshot is too old, or another database server responds")
                del loaded[key]  # it must not get a later snapshot, because the changes before that are unknown
            collection_ids = {collection_id for collection_id, _ in loaded}
            async for changes in centroid_stream.changed_since(connection, collection_ids, oldest):
                changed = loaded.get((changes.collection_id, changes.model_id))
                if changed is not None:
                    await self._run(changed.index.put, changes.entries)
                    await self._run(changed.index.remove, changes.deleted)
        for item in loaded.values():
            item.index.publish(current)

    async def load(self, collection_id: uuid.UUID, model_id: str) -> None:
        """Loads an index, or loads it again. Raises psycopg.OperationalError: the database does not respond."""
        started = time.monotonic()
        index = await self._run(self._loader.load, collection_id, model_id)
        self._loaded[collection_id, model_id] = _Loaded(index, time.monotonic())
        MEMORY_INDEX_LOADS.inc()
        log.info(
            "an index of %d identities of collection %s is loaded into memory (%.0f MB, %.1f s)",
            index.people,
            collection_id,
            index.size / 1e6,
            time.monotonic() - started,
        )

    async def _refresh_repeatedly(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_S)
            self._measure()
            try:
                await self.refresh()
            except DatabaseUnavailable as error:  # the next refresh applies these changes too
                log.warning("the indexes in memory could not be refreshed: %s", error.detail)
            except Exception:  # searches use SQL until the indexes are loaded again
                log.exception("the indexes in memory could not be refreshed and are removed")
                self._loaded.clear()

    async def _load_repeatedly(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_S)
            while self._wanted:
                key, needed = self._wanted.popitem()
                if key in self._loaded or not self._make_room(needed):
                    continue
                try:
                    await self.load(*key)
                except psycopg.OperationalError as error:
                    self._retry_at[key] = time.monotonic() + RETRY_S
                    reason = str(error).partition("\n")[0]
                    log.warning("the index of collection %s could not be loaded: %s", key[0], reason)
                except Exception:
                    self._retry_at[key] = time.monotonic() + RETRY_S
                    log.exception("the index of collection %s could not be loaded", key[0])

    def _make_room(self, needed: int) -> bool:
        """Evicts the indexes that were unused for the longest time; returns False if too much is in use."""
        free = self._max_bytes - self._used_bytes()
        unused_since = time.monotonic() - MIN_UNUSED_S
        by_use = sorted(self._loaded.items(), key=lambda pair: pair[1].used_at)
        evicted = []
        for key, item in by_use:
            if free >= needed or item.used_at > unused_since:
                break
            evicted.append(key)
            free += item.index.size
        if free < needed:
            return False
        for key in evicted:
            self._drop(key, "another collection needs the memory")
            MEMORY_INDEX_EVICTIONS.inc()
        return True

    def _drop(self, key: Key, reason: str) -> None:
        if self._loaded.pop(key, None) is not None:
            log.info("the index of collection %s is removed from memory: %s", key[0], reason)

    def _used_bytes(self) -> int:
        return sum(item.index.size for item in self._loaded.values())

    def _measure(self) -> None:
        indexes = [item.index for item in self._loaded.values()]
        MEMORY_INDEX_IDENTITIES.set(sum(index.people for index in indexes))
        MEMORY_INDEX_BYTES.set(self._used_bytes())
        now = time.time()
        oldest = min((index.state.snapshot.taken_at.timestamp() for index in indexes), default=now)
        MEMORY_INDEX_AGE.set(max(0.0, now - oldest))

    async def _run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._executor, function, *arguments)
