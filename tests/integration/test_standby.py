"""Who is to be embedded again when a collection gets a second model, on a real PostgreSQL."""

import uuid
from collections.abc import Sequence

import numpy as np
import pytest
from sqlalchemy import select, text

from service.gallery.jobs import jobs
from service.gallery.jobs.jobs import JobRef, State
from service.gallery.people import collections, corrections, identities, model_migration, templates
from service.gallery.people.collections import Collection
from service.gallery.search.explain import explain
from service.gallery.storage.database import Database
from service.gallery.storage.tables import job_row

pytestmark = pytest.mark.anyio
SECOND = "tiny-second"


@pytest.fixture
async def both(database: Database, collection: Collection) -> Collection:
    """A collection of nine people, of whom the model that stands by knows p1, p4 and p7."""
    async with database.transaction() as connection:
        await collections.add_model(connection, SECOND, 16, "1" * 64)
        found = await collections.change(connection, collection.name, secondary_model_id=SECOND)
    for number in range(9):
        await enrol(database, found, f"p{number}", ["tiny", SECOND] if number % 3 == 1 else ["tiny"])
    return found


async def enrol(database: Database, found: Collection, name: str, models: Sequence[str]) -> None:
    face = np.eye(16, dtype=np.float32)[0]
    source = uuid.uuid4().bytes * 2
    async with database.transaction() as connection:
        identity_id, _ = await identities.lock_or_create(connection, found.id, name, None, None)
        for model_id in models:
            sample = templates.NewTemplate(source, face, (0.0, 0.0, 1.0, 1.0), 0.9, 0.5)
            await templates.add(connection, found.id, identity_id, model_id, [sample])
            await templates.recompute_centroid(connection, found.id, identity_id, model_id)


async def test_a_job_has_a_row_for_everybody_whom_the_other_model_lacks(database: Database, both: Collection) -> None:
    """In the order in which they were enrolled, numbered from 0."""
    place = JobRef(both.id, uuid.uuid4())
    async with database.transaction() as connection:
        await jobs.create(connection, place, "re-embedding", {"model_id": SECOND})
        total = await jobs.select_rows(connection, place, model_migration.identities_to_reembed(both))
        await jobs.start(connection, place, total)
    async with database.transaction() as connection:
        started = await jobs.get(connection, place)
        rows = await jobs.rows_page(connection, place, 100)
        people = {one.external_id: one.id for one in await identities.page(connection, both.id, 100)}
    wanted = [f"p{number}" for number in (0, 2, 3, 5, 6, 8)]
    assert (started.state, started.total, total) == (State.RUNNING, 6, 6)
    assert [(row.number, row.external_id) for row in rows] == list(enumerate(wanted))
    assert [row.source for row in rows] == [str(people[name]) for name in wanted]
    assert {row.status for row in rows} == {None}


async def test_a_job_for_which_there_is_nothing_to_do_has_no_rows(database: Database, collection: Collection) -> None:
    place = JobRef(collection.id, uuid.uuid4())
    async with database.transaction() as connection:
        await collections.add_model(connection, SECOND, 16, "1" * 64)
        found = await collections.change(connection, collection.name, secondary_model_id=SECOND)
        await jobs.create(connection, place, "re-embedding", {"model_id": SECOND})
        assert await jobs.select_rows(connection, place, model_migration.identities_to_reembed(found)) == 0
        rows = await connection.execute(select(job_row.c.number).where(place.of_rows))
    assert rows.all() == []


async def test_two_models_are_compared_in_one_go(database: Database, both: Collection) -> None:
    """Not by a search for each person, whatever the tables' statistics say."""
    async with database.transaction() as connection:
        await connection.execute(text("SET LOCAL enable_hashjoin = off"))  # which it would prefer for so few
        await connection.execute(text("SET LOCAL enable_mergejoin = off"))
        steps = await explain(connection, model_migration.identities_to_reembed(both))
        assert "Nested Loop" in {step.node for step in steps}
        await connection.execute(text("SET LOCAL enable_hashjoin = on"))
        await model_migration.disable_nested_loops(connection)
        steps = await explain(connection, model_migration.identities_to_reembed(both))
    assert "Nested Loop" not in {step.node for step in steps}


async def test_a_face_that_is_forgotten_is_counted_under_every_model(database: Database, both: Collection) -> None:
    """One model may take it for the person's and the other not: a receipt tells of both rows."""
    async with database.transaction() as connection:
        people = {one.external_id: one.id for one in await identities.page(connection, both.id, 100)}
        source, face = uuid.uuid4().bytes * 2, np.eye(16, dtype=np.float32)
        await corrections.add(connection, both.id, people["p0"], "tiny", face[0], source)
        await corrections.add(connection, both.id, people["p0"], SECOND, face[1], source)
        assert await corrections.delete_showing(connection, both.id, [people["p1"]]) == 2
        assert await corrections.delete_showing(connection, both.id, [people["p1"]]) == 0
