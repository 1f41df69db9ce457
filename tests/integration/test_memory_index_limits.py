"""Indexes in memory stay below the limit."""

import asyncio
import uuid

import psycopg
import pytest
from sqlalchemy import text

from service.gallery.index import loaded_indexes
from service.gallery.index.loading import Loader
from service.gallery.index.memory_index import MemoryIndex
from service.gallery.index.memory_indexes import MemoryIndexes
from service.gallery.people import collections
from service.gallery.people.collections import Collection
from service.gallery.storage.database import Database
from tests.gallery_rows import DIM, filled

pytestmark = pytest.mark.anyio


async def test_memory_is_bounded(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of three galleries fit. An index that is in use is not evicted for another one."""
    galleries = []
    for number in range(3):
        async with database.transaction() as connection:
            await collections.add_model(connection, "tiny", DIM, "0" * 64)
            galleries.append(await collections.create(connection, f"test-{uuid.uuid4().hex[:12]}", "tiny"))
        await filled(database, galleries[-1], 20, number)
    indexes = MemoryIndexes(database, 2 * MemoryIndex.bytes_of(20, DIM))
    running = asyncio.create_task(indexes.run())

    def loaded() -> list[bool]:
        return [indexes.find(item.id, "tiny") is not None for item in galleries]

    async def use(*numbers: int, loads: list[bool]) -> None:
        for number in numbers:
            indexes.use(galleries[number].id, "tiny", 20, DIM)
        async with asyncio.timeout(20):
            while loaded() != loads:
                await asyncio.sleep(0.05)

    indexes.use(galleries[2].id, "tiny", 41, DIM)
    await asyncio.sleep(1)
    assert loaded() == [False, False, False]
    await use(0, 1, loads=[True, True, False])
    await use(2, loads=[True, True, False])
    await asyncio.sleep(1)
    assert loaded() == [True, True, False]
    monkeypatch.setattr(loaded_indexes, "MIN_UNUSED_S", 0)
    await use(1, 2, loads=[False, True, True])
    running.cancel()


async def test_a_load_that_waits_for_the_server_can_be_stopped(database: Database, collection: Collection) -> None:
    loader = Loader(database)
    async with database.transaction() as connection:
        await connection.execute(text("LOCK TABLE centroid IN ACCESS EXCLUSIVE MODE"))
        loading = asyncio.create_task(asyncio.to_thread(loader.load, collection.id, "tiny"))
        waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'centroid'::regclass")
        async with asyncio.timeout(20):
            while not (await connection.execute(waiting)).scalar_one():
                await asyncio.sleep(0.05)
        loader.stop()
        with pytest.raises(psycopg.OperationalError):
            await asyncio.wait_for(loading, 5)
