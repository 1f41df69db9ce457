"""Builds, replaces and drops the HNSW index of a collection on a real PostgreSQL."""

import numpy as np
import pytest
from sqlalchemy import select, text
from sqlalchemy.dialects import postgresql

from service.gallery.index import hnsw
from service.gallery.people.collections import Collection
from service.gallery.search import search
from service.gallery.search.results import SearchPlan
from service.gallery.storage.database import Database
from tests.gallery_rows import enrol, unit

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
            near = await search.nearest(connection, collection.id, "tiny", people[number], 1)
        assert near.plan is SearchPlan.HNSW
        assert near.candidates[0].external_id == f"p{number}"
    async with database.transaction() as connection:
        await connection.execute(text("SET LOCAL enable_seqscan = off"))
        await connection.execute(text("SET LOCAL enable_bitmapscan = off"))
        await connection.execute(text("SET LOCAL enable_sort = off"))
        shortlist = search._hnsw_shortlist(collection.id, "tiny", people[0], 10, None)
        explained = await connection.execute(text("EXPLAIN " + _literal(select(shortlist))))
        assert name in "\n".join(row[0] for row in explained)
    assert name in await hnsw.maintain(database, build_from=1000, drop_below=500)
    async with database.transaction() as connection:
        assert not await hnsw.is_ready(connection, collection.id, "tiny")


def _literal(statement: object) -> str:
    """Returns the SQL of a statement with its parameters as literals."""
    compiled = statement.compile(  # type: ignore[attr-defined]
        dialect=postgresql.dialect(), compile_kwargs={"literal_binds": True, "render_postcompile": True}
    )
    return str(compiled)


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
