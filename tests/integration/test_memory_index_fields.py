"""Filtered searches with fields of the metadata in memory lose nobody and see every committed change."""

import json
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import psycopg
import pytest
from sqlalchemy import Text, cast, literal, select, update
from sqlalchemy.dialects.postgresql import JSONB

from service.gallery.access.audit_entries import SERVICE
from service.gallery.access.audit_trail import AuditTrail
from service.gallery.index import field_requests, field_stream, memory_index, memory_indexes
from service.gallery.index.loading import Loader
from service.gallery.index.memory_index import MemoryIndex
from service.gallery.index.memory_indexes import MemoryIndexes
from service.gallery.people import erasure
from service.gallery.people.collections import Collection
from service.gallery.search.filters import condition_of
from service.gallery.search.nearest import SearchOptions
from service.gallery.search.results import SearchPlan
from service.gallery.search.search import search_gallery
from service.gallery.storage import row_security
from service.gallery.storage.database import Database
from service.gallery.storage.tables import identity
from tests.gallery_rows import DIM, enrol, filled, unit

pytestmark = pytest.mark.anyio
LARGE = 100_000
"""A size of a gallery from which on searches use an index."""
VALUES = [
    "1",
    "1.0",
    "1.50",
    "2",
    "-0.25",
    "1e-300",
    "1e-4000",
    "1e4000",
    "true",
    "null",
    '"1"',
    '"engines"',
    "[1]",
    "{}",
]
"""Values in JSON. PostgreSQL stores numbers that no floating-point type can hold."""
FILTERS: list[Any] = [
    {"a": 1},
    {"a": 1.5},
    {"a": True},
    {"a": None},
    {"a": "1"},
    {"a": {"$in": ["engines", 2, 7]}},
    {"a": {"$in": []}},
    {"a": {"$gt": 0, "$lte": 1}},
    {"a": {"$gte": 10**200}},
    {"a": {"$lt": 0}},
    {"a": {"$ne": 1}},
    {"a": {"$contains": 1}},
    {"b.c": {"$gte": 20}, "a": 1},
    {"b.c": 3},
    {"$or": [{"a": "engines"}, {"b.c": {"$lt": 9}}]},
    {"$and": [{"b.c": {"$gt": 5}}, {"$not": {"a": 2}}]},
]


class Gallery:
    """A collection that is searched with an index."""

    def __init__(self, restricted: Database, collection: Collection) -> None:
        self.database, self.collection = restricted, collection
        self.indexes = MemoryIndexes(restricted, 10**9)

    @property
    def index(self) -> MemoryIndex:
        index = self.indexes.find(self.collection.id, "tiny")
        assert index is not None
        return index

    async def store(self, name: str, metadata: str) -> None:
        """Replaces the metadata of an identity, in JSON."""
        of_person = identity.c.collection_id == self.collection.id, identity.c.external_id == name
        async with self.database.transaction(collection_id=self.collection.id) as connection:
            change = update(identity).where(*of_person).values(metadata=select(_jsonb(metadata)).scalar_subquery())
            await connection.execute(change)

    async def found(self, metadata_filter: dict[str, Any]) -> set[str]:
        """Returns the names that a search with the index finds."""
        options = SearchOptions(LARGE, metadata_filter)
        async with self.database.transaction(collection_id=self.collection.id) as connection:
            scope = connection, self.collection.id, "tiny", LARGE, self.indexes
            [result] = await search_gallery(*scope, [PROBE], options, condition_of(metadata_filter))
        assert result.plan is SearchPlan.IN_MEMORY
        return {candidate.external_id for candidate in result.candidates}

    async def by_sql(self, metadata_filter: dict[str, Any]) -> set[str]:
        """Returns the names of the identities that fulfil a filter."""
        condition = identity.c.collection_id == self.collection.id, condition_of(metadata_filter)
        async with self.database.transaction(collection_id=self.collection.id) as connection:
            return set((await connection.execute(select(identity.c.external_id).where(*condition))).scalars())

    async def hashes(self, value: str) -> dict[str, int]:
        async with self.database.transaction() as connection:
            return await field_stream.ValueHashes().of(connection, [json.dumps(value)])

    async def load(self, *paths: str) -> None:
        """Loads the index and, after a search with a filter on these fields, the fields."""
        await self.indexes.load(self.collection.id, "tiny")
        await self.found({"$or": [{path: 1} for path in paths]})
        await self.indexes.load_fields()
        await self.indexes.refresh()
        assert self.index.state.table.fields.keys() == {tuple(path.split(".")) for path in paths}


PROBE = unit(np.random.default_rng(1))


def _jsonb(value: str) -> Any:
    return cast(literal(value, Text), JSONB)


@pytest.fixture
async def gallery(
    postgres_url: str, database: Database, collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Gallery]:
    """A gallery of 42 people with different metadata, whose fields restrict any filter."""
    monkeypatch.setattr(memory_index, "MAX_SHARE", 1.0)
    await filled(database, collection, 3 * len(VALUES), 11)
    restricted = Database(row_security.app_role_url(postgres_url))
    gallery = Gallery(restricted, collection)
    for number in range(3 * len(VALUES)):
        a = f'"a": {VALUES[number % len(VALUES)]}, ' if number < 2 * len(VALUES) else ""
        await gallery.store(f"p{number}", f'{{{a}"b": {{"c": {number}}}}}')
    yield gallery
    await restricted.close()


@pytest.mark.parametrize("paths", [("a",), ("a", "b.c")])
async def test_filters_find_those_whom_sql_finds(gallery: Gallery, paths: tuple[str, ...]) -> None:
    await gallery.load(*paths)
    for metadata_filter in FILTERS:
        assert await gallery.found(metadata_filter) == await gallery.by_sql(metadata_filter), metadata_filter


async def test_fields_restrict_the_rows(gallery: Gallery) -> None:
    await gallery.load("a", "b.c")
    key = gallery.collection.id, "tiny"

    async def count(metadata_filter: dict[str, Any]) -> int | None:
        async with gallery.database.transaction(collection_id=gallery.collection.id) as connection:
            rows = await gallery.indexes.rows_of(connection, key, gallery.index.state, metadata_filter)
        return None if rows is None else len(rows)

    assert await count({"a": 1}) == 6  # 1 and 1.0 are equal; the hash of [1] is that of 1
    assert await count({"a": {"$gt": 10**20}}) == 2
    assert await count({"a": {"$gt": 1}, "b.c": {"$gte": 14}}) == 5  # a bound includes its number
    assert await count({"a": {"$ne": 1}}) is None
    assert await count({"d": 1}) is None


async def test_changes_of_metadata_are_seen_before_and_after_a_refresh(gallery: Gallery) -> None:
    await gallery.load("a")
    before = await gallery.found({"a": "engines"})
    await gallery.store("p0", '{"a": "engines"}')
    gone = next(iter(before))
    await gallery.store(gone, '{"b": 1}')
    expected = before - {gone} | {"p0"}
    assert await gallery.found({"a": "engines"}) == expected
    await gallery.indexes.refresh()
    assert await gallery.found({"a": "engines"}) == expected
    assert len(gallery.index.rows_of(gallery.index.state, {"a": "engines"}, await gallery.hashes("engines"))) == 2


async def test_changes_between_the_reading_of_a_field_and_its_use_are_seen(gallery: Gallery) -> None:
    """The index already contains later changes than the field that is added to it."""
    await gallery.indexes.load(gallery.collection.id, "tiny")
    before = await gallery.found({"a": "engines"})
    await gallery.indexes.load_fields()
    await gallery.store("p0", '{"a": "engines"}')
    [item] = gallery.indexes._loaded.values()
    read, item.read_fields = item.read_fields, {}
    await gallery.indexes.refresh()
    item.read_fields = read
    memory_indexes._update_fields(item)
    assert gallery.index.state.table.fields
    assert await gallery.found({"a": "engines"}) == before | {"p0"}
    await gallery.indexes.refresh()
    assert await gallery.found({"a": "engines"}) == before | {"p0"}


async def test_new_and_deleted_people_have_the_right_fields(gallery: Gallery, database: Database) -> None:
    await gallery.load("a", "b.c")
    identity_id = await enrol(database, gallery.collection, "new", unit(np.random.default_rng(12), 1))
    await gallery.store("new", '{"a": "new", "b": {"c": 1000}}')
    for _ in range(2):
        assert await gallery.found({"a": "new"}) == {"new"}
        assert await gallery.found({"b.c": {"$gt": 900}}) == {"new"}
        await gallery.indexes.refresh()
    async with database.transaction(collection_id=gallery.collection.id) as connection:
        await erasure.erase(connection, AuditTrail(None), gallery.collection.id, identity_id, SERVICE)
    for _ in range(2):
        assert await gallery.found({"a": "new"}) == set()
        await gallery.indexes.refresh()
    for field in gallery.index.state.table.fields.values():
        assert 1000 not in field.numbers


async def test_unused_fields_make_room_for_others(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(field_requests, "MAX_FIELDS", 1)
    await gallery.load("a")
    monkeypatch.setattr(field_requests, "MIN_UNUSED_S", -1.0)
    assert await gallery.found({"b.c": 5}) == {"p5"}
    await gallery.indexes.load_fields()
    await gallery.indexes.refresh()
    assert gallery.index.state.table.fields.keys() == {("b", "c")}
    assert await gallery.found({"b.c": 5}) == {"p5"}


async def test_searches_work_without_a_field_that_cannot_be_read(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise psycopg.OperationalError("the connection is lost")

    monkeypatch.setattr(Loader, "load_field", fail)
    await gallery.indexes.load(gallery.collection.id, "tiny")
    await gallery.found({"a": "engines"})
    await gallery.indexes.load_fields()
    await gallery.indexes.refresh()
    assert not gallery.index.state.table.fields
    assert await gallery.found({"a": "engines"}) == await gallery.by_sql({"a": "engines"})


async def test_fields_are_loaded_within_the_limit_of_memory_only(gallery: Gallery) -> None:
    gallery.indexes._loaded.max_bytes = MemoryIndex.bytes_of(3 * len(VALUES), DIM, 1)
    await gallery.indexes.load(gallery.collection.id, "tiny")
    await gallery.found({"a": 1, "b.c": 1})
    for _ in range(2):
        await gallery.indexes.load_fields()
        await gallery.indexes.refresh()
    assert len(gallery.index.state.table.fields) == 1
