"""Many new identities with one embedding each, in a few statements."""

import uuid

import numpy as np
import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from service.gallery.enrolment import bulk
from service.gallery.enrolment.bulk import NewIdentities
from service.gallery.index.centroids import binary_code
from service.gallery.jobs import jobs, rows
from service.gallery.jobs.records import JobRef, NewRow
from service.gallery.people.collections import Collection
from service.gallery.storage.database import Database
from service.gallery.storage.tables import centroid, identity, template
from tests.gallery_rows import enrol, unit

pytestmark = pytest.mark.anyio


async def new_job(database: Database, collection: Collection, names: list[str]) -> JobRef:
    job_ref = JobRef(collection.id, uuid.uuid4())
    async with database.transaction(collection_id=collection.id) as connection:
        await jobs.create(connection, job_ref, "test", {})
        await rows.insert_rows(connection, job_ref, [NewRow("row", name, None) for name in names])
    return job_ref


def new_identities(embeddings: np.ndarray) -> NewIdentities:
    count = len(embeddings)
    sources = [bytes([number]) * 32 for number in range(count)]
    return NewIdentities(np.arange(count, dtype=np.int32), bulk.random_ids(count), sources, embeddings)


async def test_embeddings_and_codes_are_stored_exactly(database: Database, collection: Collection) -> None:
    embeddings = unit(np.random.default_rng(1), 3)
    new = new_identities(embeddings)
    job_ref = await new_job(database, collection, ["a", "b", "c"])
    async with database.transaction(collection_id=collection.id) as connection:
        assert await bulk.store(connection, job_ref, collection.model_id, new) == 3
        stored = (
            await connection.execute(
                select(
                    identity.c.external_id,
                    template.c.embedding,
                    template.c.source_sha256,
                    centroid.c.embedding,
                    centroid.c.binary_code,
                )
                .join(template, (template.c.identity_id == identity.c.id) & _same(template))
                .join(centroid, (centroid.c.identity_id == identity.c.id) & _same(centroid))
                .where(identity.c.collection_id == collection.id)
                .order_by(identity.c.external_id)
            )
        ).all()
    assert [row[0] for row in stored] == ["a", "b", "c"]
    for row, embedding, source in zip(stored, embeddings, new.sources, strict=True):
        assert np.array_equal(np.asarray(row[1], np.float32), embedding)
        assert np.array_equal(np.asarray(row[3], np.float32), embedding)
        assert (row[2], row[4]) == (source, binary_code(embedding))


async def test_an_identity_of_a_concurrent_request_is_an_integrity_error(
    database: Database, collection: Collection
) -> None:
    """The job then enrols the rows one by one."""
    embeddings = unit(np.random.default_rng(2), 2)
    job_ref = await new_job(database, collection, ["a", "b"])
    await enrol(database, collection, "b", embeddings[1:])
    with pytest.raises(IntegrityError):
        async with database.transaction(collection_id=collection.id) as connection:
            await bulk.store(connection, job_ref, collection.model_id, new_identities(embeddings))


def _same(table: object) -> object:
    return table.c.collection_id == identity.c.collection_id  # type: ignore[attr-defined]
