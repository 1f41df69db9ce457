"""Builds, replaces and drops the HNSW index of a collection on a real PostgreSQL."""

import asyncio

import numpy as np
import pytest
from sqlalchemy import text

from service.errors import StartupError
from service.gallery.index import hnsw
from service.gallery.people.collections import Collection
from service.gallery.search.nearest import SearchOptions, nearest
from service.gallery.search.results import SearchPlan
from service.gallery.storage import row_security
from service.gallery.storage.database import Database
from service.runtime.indexes import build_indexes
from service.runtime.settings import load_settings
from tests.gallery_rows import enrol, nearest_to, unit

pytestmark = pytest.mark.anyio


async def test_the_index_of_a_large_collection_is_built_used_and_dropped(
    database: Database, collection: Collection
) -> None:
    rng = np.random.default_rng(3)
    people = unit(rng, 150)
    for number, embedding in enumerate(people):
        await enrol(database, collection, f"p{number}", embedding[None])
    name = hnsw.index_name(collection.id, "tiny")
    assert name not in await hnsw.maintain(database, build_from=151, drop_below=10)
    assert name in await hnsw.maintain(database, build_from=150, drop_below=10)
    assert name not in await hnsw.maintain(database, build_from=150, drop_below=10)
    for number in rng.integers(0, 150, 20):
        async with database.transaction() as connection:
            near = await nearest_to(connection, collection.id, people[number], 1)
        assert near.plan is SearchPlan.HNSW
        assert near.candidates[0].external_id == f"p{number}"
    async with database.transaction() as connection:
        await connection.execute(text("SET LOCAL enable_seqscan = off"))
        await connection.execute(text("SET LOCAL enable_bitmapscan = off"))
        await connection.execute(text("SET LOCAL enable_sort = off"))
        options = SearchOptions(10, explained=True)
        [near] = await nearest(connection, collection.id, "tiny", [people[0]], options, plan=SearchPlan.HNSW)
        assert name in {step.index for step in near.nodes or []}
    assert name in await hnsw.maintain(database, build_from=1000, drop_below=500)
    async with database.transaction() as connection:
        assert not await hnsw.is_ready(connection, collection.id, "tiny")


async def test_an_invalid_index_of_a_failed_build_is_replaced(database: Database, collection: Collection) -> None:
    await enrol(database, collection, "a", unit(np.random.default_rng(4), 1))
    await hnsw.maintain(database, build_from=1, drop_below=1)
    name = hnsw.index_name(collection.id, "tiny")
    async with database.transaction() as connection:
        await connection.execute(
            text("UPDATE pg_index SET indisvalid = false WHERE indexrelid = to_regclass(:name)"), {"name": name}
        )
    assert name in await hnsw.maintain(database, build_from=1, drop_below=1)
    async with database.transaction() as connection:
        assert await hnsw.is_ready(connection, collection.id, "tiny")
    await hnsw.maintain(database, build_from=10**6, drop_below=10**6)


async def test_an_account_without_the_table_leaves_the_indexes_to_another_process(
    database: Database, collection: Collection, postgres_url: str
) -> None:
    """Row-level security hides the rows from it, so that it would regard every index as unneeded."""
    await enrol(database, collection, "a", unit(np.random.default_rng(5), 1))
    app_url = row_security.app_role_url(postgres_url)
    restricted = Database(app_url)
    assert await hnsw.maintain(restricted, build_from=1, drop_below=1) == []
    section = {"hnsw_min_identities": 1}
    with pytest.raises(StartupError, match=r"set database\.owner_url"):
        await asyncio.to_thread(build_indexes, load_settings(database={"url": app_url} | section), False, None)
    settings = load_settings(database={"url": app_url, "owner_url": postgres_url} | section)
    name = hnsw.index_name(collection.id, "tiny")
    assert name in await asyncio.to_thread(build_indexes, settings, False, None)
    assert await hnsw.maintain(restricted, build_from=1, drop_below=1) == []
    async with database.transaction() as connection:
        assert await hnsw.is_ready(connection, collection.id, "tiny")
    await restricted.close()
    await hnsw.maintain(database, build_from=10**6, drop_below=10**6)
