"""Enrolment, search by each plan, deletion and concurrent writers on a real PostgreSQL."""

import asyncio
import uuid

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sqlalchemy import func, select, text, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import IntegrityError

from service.errors import CollectionExists, CollectionNotFound, IdentityNotFound, StartupError
from service.gallery.enrolment import store as enrolment
from service.gallery.index import centroids, hnsw
from service.gallery.index.centroids import centroid_of
from service.gallery.people import collections, identities
from service.gallery.people.collections import Collection
from service.gallery.search import planning, search
from service.gallery.search.explain import explain
from service.gallery.search.filters import condition_of
from service.gallery.search.results import SearchPlan
from service.gallery.storage.database import Database
from service.gallery.storage.tables import centroid, identity, template
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


async def test_a_search_of_an_empty_gallery_has_no_candidates(database: Database, collection: Collection) -> None:
    async with database.transaction() as connection:
        near = await search.nearest(connection, collection.id, "tiny", unit(np.random.default_rng(0)), 5)
    assert (near.candidates, near.plan) == ([], SearchPlan.EXACT)


async def test_search_scores_by_the_nearest_template_and_shortlists_by_the_centroid(
    database: Database, collection: Collection
) -> None:
    rng = np.random.default_rng(2)
    people = {f"p{number}": unit(rng, 3) for number in range(20)}
    for name, embeddings in people.items():
        await enrol(database, collection, name, embeddings)
    probe = people["p7"][1]
    async with database.transaction() as connection:
        near = await search.nearest(connection, collection.id, "tiny", probe, 20)
    candidates = near.candidates
    best = {name: float((embeddings @ probe).max()) for name, embeddings in people.items()}
    assert [candidate.external_id for candidate in candidates] == sorted(best, key=lambda name: -best[name])
    np.testing.assert_allclose(
        [candidate.score for candidate in candidates], sorted(best.values(), reverse=True), atol=1e-5
    )
    top = candidates[0]
    assert (top.external_id, top.template_count) == ("p7", 3)
    assert top.centroid_score == pytest.approx(float(centroid_of(people["p7"]) @ probe), abs=1e-5)


async def test_a_filtered_search_returns_every_matching_identity(
    database: Database, collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exact comparison and the iterative scan of the index return the same identities, at any distance."""
    rng = np.random.default_rng(5)
    people = unit(rng, 400)
    for number, embedding in enumerate(people):
        await enrol(database, collection, f"p{number}", embedding[None])
    async with database.transaction() as connection:
        rows = text(
            "UPDATE identity SET metadata = jsonb_build_object('row', substr(external_id, 2)::int % 20) "
            "WHERE collection_id = :collection"
        )
        await connection.execute(rows, {"collection": collection.id})
    await hnsw.maintain(database, build_from=400, drop_below=10)
    condition = condition_of({"row": 7})
    monkeypatch.setattr(planning, "EF_SEARCH", 40)
    for compared_exactly, plan in ((20_000, SearchPlan.EXACT), (5, SearchPlan.HNSW)):
        monkeypatch.setattr(planning, "FILTERED_EXACTLY", compared_exactly)
        for probe in unit(rng, 10):
            async with database.transaction() as connection:
                near = await search.nearest(connection, collection.id, "tiny", probe, 20, condition)
            best = sorted(range(7, 400, 20), key=lambda number, probe=probe: -float(people[number] @ probe))
            assert near.plan is plan
            assert [candidate.external_id for candidate in near.candidates] == [f"p{number}" for number in best]


async def test_a_search_by_binary_codes_returns_the_candidates_of_an_exact_search(
    database: Database, collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tests searches with and without a filter, and identities that have no binary code yet."""
    rng = np.random.default_rng(9)
    people = unit(rng, 300)
    for number, embedding in enumerate(people):
        await enrol(database, collection, f"p{number}", embedding[None])
    await delete_codes(database, collection, "p7", "p107")
    condition = condition_of({"none": {"$exists": False}})
    monkeypatch.setattr(planning, "FILTERED_EXACTLY", 5)

    async def nearest(probe: np.ndarray, plan: SearchPlan) -> list[list[str]]:
        lists = []
        for search_condition in (None, condition):
            async with database.transaction() as connection:
                near = await search.nearest(connection, collection.id, "tiny", probe, 5, search_condition)
            assert near.plan is plan
            lists.append([candidate.external_id for candidate in near.candidates])
        return lists

    probes = [*unit(rng, 10), people[7], people[107], people[200]]
    exact = [await nearest(probe, SearchPlan.EXACT) for probe in probes]
    monkeypatch.setattr(planning, "CODES_FROM", 100)
    assert [await nearest(probe, SearchPlan.BINARY_CODES) for probe in probes] == exact
    assert [unfiltered[0] for unfiltered, _ in exact[-3:]] == ["p7", "p107", "p200"]
    monkeypatch.setattr(planning, "MAX_UNCODED", 1)
    assert await nearest(people[7], SearchPlan.EXACT) == exact[-3]


async def test_missing_binary_codes_are_computed(database: Database, collection: Collection) -> None:
    """After an upgrade from a release without binary codes, the computed codes equal those of an enrolment."""
    rng = np.random.default_rng(4)
    for number, embedding in enumerate(unit(rng, 5)):
        await enrol(database, collection, f"p{number}", embedding[None])
    query = (
        select(centroid.c.binary_code).where(centroid.c.collection_id == collection.id).order_by(centroid.c.identity_id)
    )

    async def stored() -> list[str]:
        async with database.transaction(all_collections=True) as connection:
            return list((await connection.execute(query)).scalars())

    before = await stored()
    await delete_codes(database, collection, "p1", "p3")
    assert (await stored()).count(None) == 2
    filled = 1
    while filled:
        async with database.transaction(all_collections=True) as connection:
            filled = await centroids.fill_codes(connection)
    assert await stored() == before


async def delete_codes(database: Database, collection: Collection, *external_ids: str) -> None:
    identity_ids = select(identity.c.id).where(
        identity.c.collection_id == collection.id, identity.c.external_id.in_(external_ids)
    )
    async with database.transaction(all_collections=True) as connection:
        await connection.execute(
            update(centroid).where(centroid.c.identity_id.in_(identity_ids)).values(binary_code=None)
        )


async def test_a_search_by_binary_codes_reads_the_codes_from_the_index_only(
    database: Database, collection: Collection
) -> None:
    rng = np.random.default_rng(6)
    for number, embedding in enumerate(unit(rng, 50)):
        await enrol(database, collection, f"p{number}", embedding[None])
    async with database.autocommit() as connection:
        await connection.execute(text("VACUUM ANALYZE centroid"))
    async with database.transaction() as connection:
        for setting in ("enable_seqscan", "enable_bitmapscan"):
            await connection.execute(text(f"SET LOCAL {setting} = off"))
        shortlist = search._code_shortlist(collection.id, "tiny", unit(rng, 1)[0], 10, None)
        steps = await explain(connection, select(shortlist))
    assert ("Index Only Scan", "ix_centroid_coded") in {(step.node, step.index) for step in steps}


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


async def test_a_collection_does_not_show_identities_of_another(database: Database, collection: Collection) -> None:
    async with database.transaction() as connection:
        other = await collections.create(connection, f"other-{uuid.uuid4().hex[:8]}", "tiny")
    embeddings = unit(np.random.default_rng(5), 1)
    identity_id = await enrol(database, collection, "a", embeddings)
    async with database.transaction() as connection:
        assert (await search.nearest(connection, other.id, "tiny", embeddings[0], 5)).candidates == []
        with pytest.raises(IdentityNotFound):
            await identities.get(connection, other.id, identity_id)


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
