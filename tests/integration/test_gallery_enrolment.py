"""Enrolment, deletion and concurrent writers of the gallery on a real PostgreSQL."""

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from service.errors import CollectionExists, CollectionNotFound, IdentityNotFound, StartupError
from service.gallery.enrolment import store as enrolment
from service.gallery.index.centroids import centroid_of
from service.gallery.people import collections, identities
from service.gallery.people.collections import Collection
from service.gallery.storage.database import Database
from service.gallery.storage.tables import centroid, template
from tests.gallery_rows import DIM, add_templates, create_identity, enrol, unit

pytestmark = pytest.mark.anyio
EMBEDDINGS = arrays.arrays(np.float32, (4, DIM), elements=st.floats(-1, 1, width=32))


async def test_a_stored_embedding_is_read_back_unchanged(database: Database, collection: Collection) -> None:
    embedding = unit(np.random.default_rng(1), 1)
    await enrol(database, collection, "a", embedding)
    async with database.transaction() as connection:
        query = select(template.c.embedding).where(template.c.collection_id == collection.id)
        stored = (await connection.execute(query)).scalar_one()
    np.testing.assert_array_equal(np.asarray(stored, np.float32), embedding[0])


async def test_concurrent_writers_of_one_identity_store_every_template(
    database: Database, collection: Collection
) -> None:
    embeddings = unit(np.random.default_rng(6), 20)

    async def register(number: int) -> bool:
        async with database.transaction() as connection:
            row, created = await enrolment.lock_or_create(connection, collection.id, "one")
            await asyncio.sleep(0.01)
            await add_templates(connection, collection.id, row.id, "tiny", embeddings[number : number + 1])
        return created

    created = await asyncio.gather(*(register(number) for number in range(20)))
    assert sum(created) == 1
    async with database.transaction() as connection:
        stored = (await connection.execute(select(centroid).where(centroid.c.collection_id == collection.id))).one()
    assert stored.template_count == 20
    np.testing.assert_allclose(np.asarray(stored.embedding), centroid_of(embeddings), atol=1e-6)


async def test_a_face_that_is_already_stored_adds_no_template(database: Database, collection: Collection) -> None:
    embedding = unit(np.random.default_rng(7), 1)
    source = bytes(32)
    async with database.transaction() as connection:
        identity_id = await create_identity(connection, collection.id, "a", label="A", metadata={"n": 1})
        scope = connection, collection.id, identity_id, "tiny"
        first, repeated = await add_templates(*scope, np.repeat(embedding, 2, axis=0), [source, source])
    assert first.id is not None
    assert (repeated.id, repeated.similarity, repeated.template_count) == (None, pytest.approx(1), 1)
    async with database.transaction() as connection:
        row, created = await enrolment.lock_or_create(connection, collection.id, "a")
        assert (row.id, created) == (identity_id, False)
        [again] = await add_templates(connection, collection.id, identity_id, "tiny", embedding, [source])
        assert (again.id, again.template_count) == (None, 1)
        stored = await identities.get(connection, collection.id, identity_id)
    assert (stored.label, stored.metadata, stored.template_count) == ("A", {"n": 1}, 1)


async def test_removing_an_identity_deletes_its_templates_and_centroids(
    database: Database, collection: Collection
) -> None:
    identity_id = await enrol(database, collection, "a", unit(np.random.default_rng(8), 3))
    async with database.transaction() as connection:
        assert await identities.remove(connection, collection.id, identity_id) == 3
    async with database.transaction() as connection:
        for table in (template, centroid):
            rows = select(func.count()).select_from(table).where(table.c.collection_id == collection.id)
            assert (await connection.execute(rows)).scalar() == 0
        with pytest.raises(IdentityNotFound):
            await identities.remove(connection, collection.id, identity_id)


async def test_an_embedding_of_another_dimension_is_refused(database: Database, collection: Collection) -> None:
    with pytest.raises(IntegrityError):
        await enrol(database, collection, "a", np.ones((1, 8), np.float32))


async def test_a_collection_name_is_unique(database: Database, collection: Collection) -> None:
    async with database.transaction() as connection:
        with pytest.raises(CollectionExists):
            await collections.create(connection, collection.name, "tiny")
        with pytest.raises(CollectionNotFound):
            await collections.get(connection, "no-such-collection")
        assert [(collection, 0)] == await collections.page(connection, 2, prefix=collection.name)


async def test_a_model_id_with_another_dimension_or_fingerprint_is_refused(
    database: Database, collection: Collection
) -> None:
    async with database.transaction() as connection:
        await collections.add_model(connection, "tiny", 16, "0" * 64)
        for dim, fingerprint in ((32, "0" * 64), (16, "1" * 64)):
            with pytest.raises(StartupError, match="another model with the id 'tiny'"):
                await collections.add_model(connection, "tiny", dim, fingerprint)


@given(EMBEDDINGS)
def test_a_centroid_has_length_one_for_any_templates(values: np.ndarray) -> None:
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    if (lengths < 1e-3).any():
        return
    embeddings = (values / lengths).astype(np.float32)
    assert np.linalg.norm(centroid_of(embeddings)) == pytest.approx(1, abs=1e-5)
    opposed = np.concatenate([embeddings, -embeddings])
    assert np.linalg.norm(centroid_of(opposed)) == pytest.approx(1, abs=1e-5)


async def test_a_page_includes_an_identity_that_commits_late(database: Database, collection: Collection) -> None:
    """Its transaction inserted it before the others, and commits after they are visible."""
    rng = np.random.default_rng(77)
    async with database.transaction(collection_id=collection.id) as connection:
        await create_identity(connection, collection.id, "late")
        for number in range(3):
            await enrol(database, collection, f"p{number}", unit(rng, 1))

        async def first_page() -> list[str]:
            async with database.transaction(collection_id=collection.id) as other:
                return [item.external_id for item in await identities.page(other, collection.id, 2)]

        page = asyncio.create_task(first_page())
        await asyncio.sleep(0.3)
        assert not page.done()
    assert await page == ["late", "p0"]
