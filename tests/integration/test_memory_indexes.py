"""Searches with indexes in memory: they see every committed change, and use SQL where an index does not suffice."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from sqlalchemy import ColumnElement, text

from service.gallery.access.audit_entries import SERVICE
from service.gallery.access.audit_trail import AuditTrail
from service.gallery.index import snapshots
from service.gallery.index.memory_index import MemoryIndex
from service.gallery.index.memory_indexes import MemoryIndexes
from service.gallery.people import collections, erasure, merge_split_move
from service.gallery.people.collections import Collection
from service.gallery.search import in_memory
from service.gallery.search.filters import condition_of
from service.gallery.search.nearest import SearchOptions
from service.gallery.search.results import SearchPlan, SearchResult
from service.gallery.search.search import GallerySizes, search_gallery
from service.gallery.storage import row_security
from service.gallery.storage.database import Database
from tests.gallery_rows import add_templates, create_identity, enrol, filled, mark, unit

pytestmark = pytest.mark.anyio
LARGE = 100_000
"""A size of a gallery from which on searches use an index."""


@pytest.fixture
async def restricted(postgres_url: str) -> AsyncIterator[Database]:
    database = Database(row_security.app_role_url(postgres_url))
    yield database
    await database.close()


@pytest.fixture
async def indexes(restricted: Database) -> MemoryIndexes:
    return MemoryIndexes(restricted, 10**9)


async def search(
    indexes: MemoryIndexes,
    database: Database,
    collection: Collection,
    probe: np.ndarray,
    condition: ColumnElement[bool] | None = None,
    top_k: int = 3,
) -> SearchResult:
    async with database.transaction(collection_id=collection.id) as connection:
        scope = connection, collection.id, collection.model_id, LARGE, indexes
        [result] = await search_gallery(*scope, [probe], SearchOptions(top_k), condition)
    return result


def names(result: SearchResult) -> list[str]:
    return [candidate.external_id for candidate in result.candidates]


async def test_an_index_is_loaded_on_demand(
    database: Database, restricted: Database, indexes: MemoryIndexes, collection: Collection
) -> None:
    people = await filled(database, collection, 30, 1)
    running = asyncio.create_task(indexes.run())
    first = await search(indexes, restricted, collection, people[3])
    assert first.plan is SearchPlan.EXACT
    while indexes.find(collection.id, "tiny") is None:
        await asyncio.sleep(0.05)
    second = await search(indexes, restricted, collection, people[3])
    assert (second.plan, names(second)) == (SearchPlan.IN_MEMORY, names(first))
    async with restricted.transaction(collection_id=collection.id) as connection:
        size = await GallerySizes(indexes).of(connection, collection.id, "tiny")
    assert (size.people, size.templates) == (30, 30)
    running.cancel()


async def test_a_search_sees_changes_before_the_index_does(
    database: Database, restricted: Database, indexes: MemoryIndexes, collection: Collection
) -> None:
    """Nothing refreshes the index in this test."""
    rng = np.random.default_rng(1002)
    people = await filled(database, collection, 30, 2)
    await indexes.load(collection.id, "tiny")
    added = unit(rng, 2)
    identity_id = await enrol(database, collection, "added", added)
    result = await search(indexes, restricted, collection, added[1])
    assert (result.plan, names(result)[0], result.candidates[0].template_count) == (SearchPlan.IN_MEMORY, "added", 2)
    assert result.candidates[0].score == pytest.approx(1, abs=1e-5)

    changed = unit(rng, 1)
    async with database.transaction(collection_id=collection.id) as connection:
        await create_identity(connection, collection.id, "p4")
        target = await create_identity(connection, collection.id, "p5")
        await add_templates(connection, collection.id, target, "tiny", changed)
    assert names(await search(indexes, restricted, collection, changed[0]))[0] == "p5"

    async with database.transaction(collection_id=collection.id) as connection:
        await merge_split_move.merge(connection, collection.id, target, [identity_id])
    assert names(await search(indexes, restricted, collection, added[0]))[0] == "p5"
    await erase(database, collection, target)
    assert not {"p5", "added"} & set(names(await search(indexes, restricted, collection, added[0], top_k=30)))
    assert names(await search(indexes, restricted, collection, people[7]))[0] == "p7"


async def test_a_moved_identity_is_found_in_its_new_collection_only(
    database: Database, restricted: Database, indexes: MemoryIndexes, collection: Collection
) -> None:
    async with database.transaction() as connection:
        other = await collections.create(connection, f"test-{uuid.uuid4().hex[:12]}", "tiny")
    await filled(database, other, 20, 3)
    people = await filled(database, collection, 20, 4)
    await indexes.load(collection.id, "tiny")
    await indexes.load(other.id, "tiny")
    async with database.transaction(collection_id=collection.id) as connection:
        moved = (await search(indexes, restricted, collection, people[6])).candidates[0].id
        await row_security.allow_collection(connection, other.id)
        await connection.execute(text("UPDATE identity SET external_id = 'moved' WHERE id = :id"), {"id": moved})
        await merge_split_move.move(connection, collection, other, moved)
    for _ in range(2):
        assert names(await search(indexes, restricted, other, people[6]))[0] == "moved"
        assert "moved" not in names(await search(indexes, restricted, collection, people[6], top_k=20))
        await indexes.refresh()
    sizes = [indexes.find(item.id, "tiny") for item in (collection, other)]
    assert [index.people for index in sizes if index is not None] == [19, 21]


async def test_expired_identities_do_not_displace_others(
    database: Database, restricted: Database, indexes: MemoryIndexes, collection: Collection
) -> None:
    """The 20 nearest identities expire after the index has been loaded, without a change of their centroids."""
    people = await filled(database, collection, 30, 6)
    probe = people[0]
    nearest = [f"p{number}" for number in np.argsort(-(people @ probe))]
    await indexes.load(collection.id, "tiny")
    async with database.transaction(collection_id=collection.id) as connection:
        expiry = text("UPDATE identity SET retain_until = now() - interval '1 s' WHERE external_id = ANY(:names)")
        await connection.execute(expiry, {"names": nearest[:20]})
    result = await search(indexes, restricted, collection, probe)
    assert (result.plan, names(result)) == (SearchPlan.IN_MEMORY, nearest[20:23])


async def test_a_refresh_removes_deleted_identities_from_memory(
    database: Database, restricted: Database, indexes: MemoryIndexes, collection: Collection
) -> None:
    await filled(database, collection, 20, 5)
    erased = unit(np.random.default_rng(1006), 1)
    identity_id = await enrol(database, collection, "erased", erased)
    await indexes.load(collection.id, "tiny")
    index = indexes.find(collection.id, "tiny")
    assert index is not None
    assert contains(index, identity_id)
    await erase(database, collection, identity_id)
    await indexes.refresh()
    assert not contains(index, identity_id)
    assert (index.people, index.templates) == (20, 20)
    async with database.transaction(all_collections=True) as connection:
        await connection.execute(text("UPDATE centroid_change SET created_at = now() - interval '1 hour'"))
        await snapshots.delete_old_changes(connection)
        of_collection = text("SELECT count(*) FROM centroid_change WHERE collection_id = :id")
        assert (await connection.execute(of_collection, {"id": collection.id})).scalar_one() == 0


async def test_a_transaction_that_commits_after_a_refresh_is_not_missed(
    database: Database, restricted: Database, indexes: MemoryIndexes, collection: Collection
) -> None:
    """Its id is lower than those of transactions whose changes the index contains already."""
    rng = np.random.default_rng(1007)
    await filled(database, collection, 20, 7)
    late, early = unit(rng, 1), unit(rng, 1)
    async with database.transaction(collection_id=collection.id) as connection:
        identity_id = await create_identity(connection, collection.id, "late")
        await add_templates(connection, collection.id, identity_id, "tiny", late)
        await indexes.load(collection.id, "tiny")
        await enrol(database, collection, "early", early)
        await indexes.refresh()
        assert "late" not in names(await search(indexes, restricted, collection, late[0]))
    assert names(await search(indexes, restricted, collection, late[0]))[0] == "late"
    await indexes.refresh()
    assert names(await search(indexes, restricted, collection, late[0]))[0] == "late"
    index = indexes.find(collection.id, "tiny")
    assert index is not None
    assert index.people == 22


async def test_a_search_uses_sql_if_the_index_does_not_suffice(
    database: Database,
    restricted: Database,
    indexes: MemoryIndexes,
    collection: Collection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    people = await filled(database, collection, 20, 8)
    await indexes.load(collection.id, "tiny")
    index = indexes.find(collection.id, "tiny")
    assert index is not None
    snapshot = index.state.snapshot
    restarted = replace(snapshot.server, started_at=snapshot.server.started_at - timedelta(hours=1))
    old = replace(snapshot, taken_at=snapshot.taken_at - snapshots.MAX_AGE)
    for unusable in (replace(snapshot, server=restarted), old):
        index.publish(unusable)
        result = await search(indexes, restricted, collection, people[2])
        assert (result.plan, names(result)[0]) == (SearchPlan.EXACT, "p2")
    index.publish(snapshot)
    monkeypatch.setattr(in_memory, "MAX_CHANGED", 2)
    for number in range(3):
        await enrol(database, collection, f"new{number}", unit(np.random.default_rng(2000 + number), 1))
    assert (await search(indexes, restricted, collection, people[2])).plan is SearchPlan.EXACT
    await indexes.refresh()
    assert (await search(indexes, restricted, collection, people[2])).plan is SearchPlan.IN_MEMORY
    index.publish(replace(snapshot, server=restarted))
    await indexes.refresh()
    assert indexes.find(collection.id, "tiny") is None


@pytest.mark.parametrize(("value", "matching"), [("all", 1), ("half", 2), ("some", 20), ("few", 100)])
async def test_a_filtered_search_loses_nobody(
    database: Database, restricted: Database, indexes: MemoryIndexes, collection: Collection, value: str, matching: int
) -> None:
    people = await filled(database, collection, 300, 9)
    await mark(database, collection, 300, value, matching)
    await indexes.load(collection.id, "tiny")
    await enrol(database, collection, "unmarked", people[:1])
    for number in range(0, 300, 37):
        condition = condition_of({value: number % matching})
        result = await search(indexes, restricted, collection, people[number], condition, top_k=3)
        rows_of_value = range(number % matching, 300, matching)
        best = sorted(rows_of_value, key=lambda row, probe=people[number]: -float(people[row] @ probe))[:3]
        assert (result.plan, names(result)) == (SearchPlan.IN_MEMORY, [f"p{row}" for row in best])


async def erase(database: Database, collection: Collection, identity_id: uuid.UUID) -> None:
    async with database.transaction(collection_id=collection.id) as connection:
        await erasure.erase(connection, AuditTrail(None), collection.id, identity_id, SERVICE)


def contains(index: MemoryIndex, identity_id: uuid.UUID) -> bool:
    return identity_id.bytes in index.state.table.ids.tobytes()
