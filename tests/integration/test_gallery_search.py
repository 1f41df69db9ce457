"""Search of the gallery by each plan, with filters and binary codes, on a real PostgreSQL."""

import uuid

import numpy as np
import pytest
from sqlalchemy import select, text, update

from service.errors import IdentityNotFound
from service.gallery.index import centroids
from service.gallery.index.centroids import centroid_of
from service.gallery.people import collections, identities
from service.gallery.people.collections import Collection
from service.gallery.search import planning
from service.gallery.search.filters import condition_of
from service.gallery.search.nearest import SearchOptions, nearest
from service.gallery.search.results import SearchPlan
from service.gallery.storage.database import Database
from service.gallery.storage.tables import centroid, identity
from tests.gallery_rows import enrol, mark, nearest_to, unit

pytestmark = pytest.mark.anyio


async def test_a_search_of_an_empty_gallery_has_no_candidates(database: Database, collection: Collection) -> None:
    async with database.transaction() as connection:
        near = await nearest_to(connection, collection.id, unit(np.random.default_rng(0)), 5)
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
        near = await nearest_to(connection, collection.id, probe, 20)
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
    """The exact comparison and the comparison of codes return the same identities, at any distance."""
    rng = np.random.default_rng(5)
    people = unit(rng, 400)
    for number, embedding in enumerate(people):
        await enrol(database, collection, f"p{number}", embedding[None])
    await mark(database, collection, 400, "row", 20)
    condition = condition_of({"row": 7})
    monkeypatch.setattr(planning, "CODES_FROM", 100)
    for compared_exactly, plan in ((20_000, SearchPlan.EXACT), (5, SearchPlan.BINARY_CODES)):
        monkeypatch.setattr(planning, "FILTERED_EXACTLY", compared_exactly)
        for probe in unit(rng, 10):
            async with database.transaction() as connection:
                near = await nearest_to(connection, collection.id, probe, 20, condition)
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
                near = await nearest_to(connection, collection.id, probe, 5, search_condition)
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
    async with database.transaction(collection_id=collection.id) as connection:
        for setting in ("enable_seqscan", "enable_bitmapscan"):
            await connection.execute(text(f"SET LOCAL {setting} = off"))
        scope = connection, collection.id, "tiny", list(unit(rng, 2)), SearchOptions(10, explained=True)
        [one, _] = await nearest(*scope, plan=SearchPlan.BINARY_CODES)
        steps = one.nodes or []
    assert ("Index Only Scan", "ix_centroid_coded") in {(step.node, step.index) for step in steps}


async def test_a_collection_does_not_show_identities_of_another(database: Database, collection: Collection) -> None:
    async with database.transaction() as connection:
        other = await collections.create(connection, f"other-{uuid.uuid4().hex[:8]}", "tiny")
    embeddings = unit(np.random.default_rng(5), 1)
    identity_id = await enrol(database, collection, "a", embeddings)
    async with database.transaction() as connection:
        assert (await nearest_to(connection, other.id, embeddings[0], 5)).candidates == []
        with pytest.raises(IdentityNotFound):
            await identities.get(connection, other.id, identity_id)


async def test_probes_are_materialised(database: Database, collection: Collection) -> None:
    """PostgreSQL would otherwise parse the text of a probe again for every comparison: ten times the time."""
    embeddings = unit(np.random.default_rng(7), 2)
    await enrol(database, collection, "a", embeddings)
    async with database.transaction(collection_id=collection.id) as connection:
        options = SearchOptions(5, explained=True)
        [one, _] = await nearest(connection, collection.id, "tiny", list(embeddings), options)
    assert ("CTE Scan", "probe") in {(step.node, step.on) for step in one.nodes or []}
