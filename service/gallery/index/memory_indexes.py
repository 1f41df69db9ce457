"""Keeps indexes of the most recently searched collections in memory, and applies changes of the database to them."""

import asyncio
import logging
import os
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
import psycopg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import DatabaseUnavailable
from service.gallery.index import centroid_stream, field_stream, snapshots
from service.gallery.index.centroid_stream import Changes
from service.gallery.index.field_stream import ValueHashes
from service.gallery.index.fields import OneOf, conditions_of
from service.gallery.index.filter_shares import FilterShares
from service.gallery.index.index_table import Bytes, Near, Rows
from service.gallery.index.loaded_indexes import Key, LoadedIndex, LoadedIndexes
from service.gallery.index.loading import Loader
from service.gallery.index.memory_index import MemoryIndex, State
from service.gallery.index.snapshots import Snapshot
from service.gallery.storage import row_security
from service.gallery.storage.database import BACKGROUND_S, Database
from service.telemetry.metrics import MEMORY_INDEX_LOADS

Floats = npt.NDArray[np.float32]
REFRESH_S = 0.25
"""Time between two refreshes in seconds. A deleted identity leaves the memory after this time."""
RETRY_S = 10.0
"""Time until a failed load is tried again."""
MAX_THREADS = 4
"""Maximum number of threads that compare probes. One compares several probes of a search in less time than one by one,
so there are no more threads than processors."""

log = logging.getLogger(__name__)


class MemoryIndexes:
    """The indexes of one process. Searches use SQL for collections without an index.

    Args:
        max_bytes: maximum memory of all indexes together; 0: no indexes.

    Attributes:
        shares: how many identities fulfil the filters of recent searches.
    """

    def __init__(self, database: Database, max_bytes: int) -> None:
        self.shares = FilterShares()
        self._hashes = ValueHashes()
        self._database = database
        self._loaded = LoadedIndexes(max_bytes)
        self._wanted: dict[Key, int] = {}
        self._retry_at: dict[Key, float] = {}
        self._loader = Loader(database)
        self._threads = min(MAX_THREADS, os.cpu_count() or 1)
        self._executor = ThreadPoolExecutor(MAX_THREADS, "search", lambda: faiss.omp_set_num_threads(1))

    def use(self, collection_id: uuid.UUID, model_id: str, people: int, dim: int) -> MemoryIndex | None:
        """Returns the index of a collection, or None and loads it in the background if memory allows.

        Args:
            people, dim: size of the collection and number of dimensions of the model.
        """
        key = collection_id, model_id
        if (loaded := self._loaded.get(key)) is not None:
            loaded.used_at = time.monotonic()
            return loaded.index
        if MemoryIndex.bytes_of(people, dim) <= self._loaded.max_bytes and time.monotonic() >= self._retry_at.get(
            key, 0.0
        ):
            self._wanted[key] = MemoryIndex.bytes_of(people, dim)
        return None

    def find(self, collection_id: uuid.UUID, model_id: str) -> MemoryIndex | None:
        """Returns the index of a collection if it is loaded."""
        loaded = self._loaded.get((collection_id, model_id))
        return None if loaded is None else loaded.index

    async def rows_of(
        self, connection: AsyncConnection, key: Key, state: State, metadata_filter: Mapping[str, Any]
    ) -> Rows | None:
        """Returns the rows of an index that can fulfil a filter; None: the fields in memory do not restrict them.

        Fields of the filter that are not in memory are read in the background.
        """
        if (loaded := self._loaded.get(key)) is None:
            return None
        conditions = list(conditions_of(metadata_filter))
        paths = {condition.path for condition in conditions}
        loaded.requests.use(paths)
        if paths.isdisjoint(state.table.fields):
            return None
        values = {value for condition in conditions if isinstance(condition, OneOf) for value in condition.values}
        hashes = await self._hashes.of(connection, values)
        rows: Rows | None = await self._run(loaded.index.rows_of, state, metadata_filter, hashes)
        return rows

    async def find_rows(self, index: MemoryIndex, state: State, ids: Bytes) -> Rows:
        """Returns the rows of those of the identities with these (n, 16) ids that the index contains."""
        rows: Rows = await self._run(index.find, state, ids)
        return rows

    async def nearest(
        self,
        index: MemoryIndex,
        state: State,
        probes: Sequence[Floats],
        count: int,
        by_code: int = 0,
        within: Rows | None = None,
    ) -> list[Near]:
        """Returns up to `count` nearest identities for each (dim,) probe.

        Args:
            by_code: at least so many are selected by their codes and compared by their embeddings.
            within: rows to compare; None: all.
        """
        size = -(-len(probes) // self._threads)
        parts = [probes[start : start + size] for start in range(0, len(probes), size)]
        runs = [self._run(index.nearest, state, part, count, by_code, within) for part in parts]
        return [near for part in await asyncio.gather(*runs) for near in part]

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
        for loaded in self._loaded.by_server():
            try:
                await self._refresh(loaded)
            except DatabaseUnavailable as error:
                unavailable = error
        self._loaded.evict_excess()
        if unavailable is not None:
            raise unavailable

    async def _refresh(self, loaded: dict[Key, LoadedIndex]) -> None:
        for item in loaded.values():
            if item.read_fields or item.index.state.table.fields:
                await self._run(_update_fields, item)
        oldest = min((item.index.state.snapshot for item in loaded.values()), key=Snapshot.position)
        async with self._database.transaction(timeout_s=BACKGROUND_S) as connection:
            await connection.execute(text(snapshots.BEGIN))
            await row_security.allow_all_collections(connection)
            current = await snapshots.current(connection, next(iter(loaded))[0])
            for key in [key for key, item in loaded.items() if not item.index.state.snapshot.precedes(current)]:
                self._loaded.drop(key, "its snapshot is too old, or another database server responds")
                del loaded[key]  # it must not get a later snapshot, because the changes before that are unknown
            collection_ids = {collection_id for collection_id, _ in loaded}
            async for changes in centroid_stream.changed_since(connection, collection_ids, oldest):
                changed = loaded.get((changes.collection_id, changes.model_id))
                if changed is not None:
                    await self._apply(connection, changed.index, changes)
        for item in loaded.values():
            item.index.publish(current)

    async def _apply(self, connection: AsyncConnection, index: MemoryIndex, changes: Changes) -> None:
        await self._run(index.put, changes.entries)
        for path in index.state.table.fields:
            field = await field_stream.read(connection, changes.collection_id, path, changes.entries.ids)
            await self._run(index.put_field, path, field)
        await self._run(index.remove, changes.deleted)

    async def load(self, collection_id: uuid.UUID, model_id: str) -> None:
        """Loads an index, or loads it again. Raises psycopg.OperationalError: the database does not respond."""
        started = time.monotonic()
        index = await self._run(self._loader.load, collection_id, model_id)
        self._loaded[collection_id, model_id] = LoadedIndex(index, time.monotonic())
        MEMORY_INDEX_LOADS.inc()
        log.info(
            "an index of %d identities of collection %s is loaded into memory (%.0f MB, %.1f s)",
            index.people,
            collection_id,
            index.size / 1e6,
            time.monotonic() - started,
        )

    async def load_fields(self) -> None:
        """Reads the fields that filters have used. The next refresh adds them to the indexes."""
        for key, item, path in self._loaded.missing_fields():
            try:
                item.read_fields[path] = await self._run(self._loader.load_field, key[0], path)
            except Exception as error:  # searches use SQL for this filter
                item.requests.fail(path)
                log.warning("a field of collection %s could not be loaded: %s", key[0], type(error).__name__)

    async def _refresh_repeatedly(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_S)
            self._loaded.measure()
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
                if key in self._loaded or not self._loaded.make_room(needed):
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
            await self.load_fields()

    async def _run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._executor, function, *arguments)


def _update_fields(item: LoadedIndex) -> None:
    """Adds the fields that have been read since the last refresh, and drops those that filters do not use any more."""
    for path, (field, snapshot) in list(item.read_fields.items()):
        present = item.index.state.snapshot
        if snapshot.precedes(present) or present.precedes(snapshot):  # the changes between them are recorded
            item.index.add_field(path, field, snapshot)
        del item.read_fields[path]
    for path in item.index.state.table.fields.keys() - item.requests.wanted:
        item.index.drop_field(path)
