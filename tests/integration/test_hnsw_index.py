"""Builds, replaces and drops the HNSW index of a collection on a real PostgreSQL."""

import numpy as np
import pytest
from sqlalchemy import text

from service.gallery.index import hnsw
from service.gallery.people.collections import Collection
from service.gallery.search.nearest import SearchOptions, nearest
from service.gallery.search.results import SearchPlan
from service.gallery.storage.database import Database
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
