"""The rows of a re-embedding job and the comparison of two models, on a real PostgreSQL."""

import uuid

import numpy as np
import pytest
from sqlalchemy import select, text

from service.gallery.jobs import jobs
from service.gallery.jobs import rows as job_rows
from service.gallery.jobs.records import JobRef, JobState
from service.gallery.people import collections, corrections, identities, model_coverage
from service.gallery.people.collections import Collection
from service.gallery.search.explain import explain
from service.gallery.storage.database import Database
from service.gallery.storage.tables import job_row
from tests.gallery_rows import enrol

pytestmark = pytest.mark.anyio
SECONDARY = "tiny-second"
FACES = np.eye(16, dtype=np.float32)


@pytest.fixture
async def migrating(database: Database, collection: Collection) -> Collection:
    """A collection of nine identities, of which the secondary model has embedded p1, p4 and p7."""
    collection = await with_secondary_model(database, collection)
    for number in range(9):
        model_ids = ["tiny", SECONDARY] if number % 3 == 1 else ["tiny"]
        await enrol(database, collection, f"p{number}", FACES[:1], model_ids)
    return collection


async def with_secondary_model(database: Database, collection: Collection) -> Collection:
    async with database.transaction(collection_id=collection.id) as connection:
        await collections.add_model(connection, SECONDARY, 16, "1" * 64)
        return await collections.change(connection, collection.id, secondary_model_id=SECONDARY)


async def test_a_job_has_a_row_for_every_incomplete_identity(database: Database, migrating: Collection) -> None:
    """The rows are numbered from 0 in the order of enrolment."""
    job_ref = JobRef(migrating.id, uuid.uuid4())
    async with database.transaction(collection_id=migrating.id) as connection:
        await jobs.create(connection, job_ref, "re-embedding", {"model_id": SECONDARY})
        selection = model_coverage.identities_to_reembed(migrating)
        total = await job_rows.insert_selected_rows(connection, job_ref, selection)
        await jobs.start(connection, job_ref, total)
    async with database.transaction(collection_id=migrating.id) as connection:
        job = await jobs.get(connection, job_ref)
        rows = await job_rows.rows_page(connection, job_ref, 100)
        people = {one.external_id: one.id for one in await identities.page(connection, migrating.id, 100)}
    incomplete = [f"p{number}" for number in (0, 2, 3, 5, 6, 8)]
    assert (job.state, job.total, total) == (JobState.RUNNING, 6, 6)
    assert [(row.number, row.external_id) for row in rows] == list(enumerate(incomplete))
    assert [row.source for row in rows] == [str(people[name]) for name in incomplete]
    assert {row.status for row in rows} == {None}


async def test_a_job_without_incomplete_identities_has_no_rows(database: Database, collection: Collection) -> None:
    collection = await with_secondary_model(database, collection)
    job_ref = JobRef(collection.id, uuid.uuid4())
    async with database.transaction(collection_id=collection.id) as connection:
        await jobs.create(connection, job_ref, "re-embedding", {"model_id": SECONDARY})
        selection = model_coverage.identities_to_reembed(collection)
        assert await job_rows.insert_selected_rows(connection, job_ref, selection) == 0
        rows = await connection.execute(select(job_row.c.number).where(job_ref.of_rows))
    assert rows.all() == []


async def test_the_comparison_of_two_models_uses_no_nested_loops(database: Database, migrating: Collection) -> None:
    async with database.transaction(collection_id=migrating.id) as connection:
        # For so few rows the planner would prefer other joins even without statistics.
        await connection.execute(text("SET LOCAL enable_hashjoin = off"))
        await connection.execute(text("SET LOCAL enable_mergejoin = off"))
        nodes = await explain(connection, model_coverage.identities_to_reembed(migrating))
        assert "Nested Loop" in {node.node for node in nodes}
        await connection.execute(text("SET LOCAL enable_hashjoin = on"))
        await model_coverage.disable_nested_loops(connection)
        nodes = await explain(connection, model_coverage.identities_to_reembed(migrating))
    assert "Nested Loop" not in {node.node for node in nodes}


async def test_erased_corrections_are_counted_under_every_model(database: Database, migrating: Collection) -> None:
    """The face is similar to the identity under the active model only; its rows of both models are deleted."""
    async with database.transaction(collection_id=migrating.id) as connection:
        people = {one.external_id: one.id for one in await identities.page(connection, migrating.id, 100)}
        embeddings = {"tiny": FACES[0], SECONDARY: FACES[1]}
        await corrections.add(connection, migrating.id, people["p0"], embeddings, uuid.uuid4().bytes * 2)
        assert await corrections.delete_showing(connection, migrating.id, [people["p1"]]) == 2
        assert await corrections.delete_showing(connection, migrating.id, [people["p1"]]) == 0
