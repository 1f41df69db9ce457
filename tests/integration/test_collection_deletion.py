"""Deletion of collections in batches."""

import asyncio
import time

import numpy as np
import pytest
from sqlalchemy import func, select

from service.errors import CollectionNotFound
from service.gallery.people import collection_deletion, collections
from service.gallery.people.collections import Collection
from service.gallery.storage.database import Database
from service.gallery.storage.tables import centroid, identity, template
from service.gallery.storage.tables import collection as collection_table
from tests.gallery_rows import enrol, unit

pytestmark = pytest.mark.anyio


async def rows(database: Database, collection: Collection) -> list[int]:
    async with database.transaction(collection_id=collection.id) as connection:
        counts = [
            (await connection.execute(select(func.count()).where(table.c.collection_id == collection.id))).scalar_one()
            for table in (identity, template, centroid)
        ]
        own = select(func.count()).where(collection_table.c.id == collection.id)
        return [*counts, (await connection.execute(own)).scalar_one()]


async def test_a_deleted_collection_disappears_at_once_and_its_rows_in_batches(
    database: Database, collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collection_deletion, "BATCH", 3)
    for number, embedding in enumerate(unit(np.random.default_rng(0), 10)):
        await enrol(database, collection, f"p{number}", embedding[None])
    async with database.transaction() as connection:
        assert await collection_deletion.mark_deleted(connection, collection.name) == (collection.id, 10)
    async with database.transaction(all_collections=True) as connection:
        with pytest.raises(CollectionNotFound):
            await collections.get(connection, collection.name)
        with pytest.raises(CollectionNotFound):
            await collections.get_by_id(connection, collection.id)
        assert collection.id in await collection_deletion.pending(connection)
        listed = await collections.page(connection, 1000)
        assert collection.id not in {item.id for item, _ in listed}
    async with database.transaction() as connection:
        again = await collections.create(connection, collection.name, "tiny")  # the name is free
    assert await collection_deletion.delete_rows(database, collection.id, time.monotonic()) == 0
    assert await rows(database, collection) == [10, 10, 10, 1]
    deleted = await asyncio.gather(*(collection_deletion.delete_rows(database, collection.id) for _ in range(2)))
    assert sum(deleted) == 10
    assert await rows(database, collection) == [0, 0, 0, 0]
    assert await rows(database, again) == [0, 0, 0, 1]
