"""An erasure that runs while a re-embedding job inserts its rows leaves no row of the identity."""

import asyncio
import uuid

import numpy as np
import pytest

from service.gallery.access.audit_entries import SERVICE
from service.gallery.access.audit_trail import AuditTrail
from service.gallery.jobs import jobs
from service.gallery.jobs import rows as job_rows
from service.gallery.jobs.records import JobRef
from service.gallery.people import collections, identities
from service.gallery.people.collections import Collection
from service.gallery.storage.database import Database
from service.jobs.reembedding import KIND, Reembedding
from service.recognition.candidates import ResponseLimits
from service.recognition.identities import IdentityAdministration
from service.recognition.read_audit import ReadAuditBuffer
from tests.gallery_rows import enrol

pytestmark = pytest.mark.anyio
SECONDARY = "tiny-second"
FACES = np.eye(16, dtype=np.float32)


class SlowTrail(AuditTrail):
    """Holds the transaction of an erasure open after its statements, until `proceed` is set."""

    def __init__(self) -> None:
        super().__init__(None)
        self.reached, self.proceed = asyncio.Event(), asyncio.Event()

    async def append(self, *_):
        self.reached.set()
        await self.proceed.wait()
        return []


async def _finished() -> None: ...


async def test_rows_of_an_identity_that_is_erased_meanwhile_are_deleted(
    database: Database, collection: Collection
) -> None:
    job_ref = JobRef(collection.id, uuid.uuid4())
    for number in range(2):
        await enrol(database, collection, f"p{number}", FACES[:1], ["tiny"])
    async with database.transaction(collection_id=collection.id) as connection:
        await collections.add_model(connection, SECONDARY, 16, "1" * 64)
        await collections.change(connection, collection.id, secondary_model_id=SECONDARY)
        job = await jobs.create(connection, job_ref, KIND, {"model_id": SECONDARY})
        erased = (await identities.page(connection, collection.id, 1))[0]
    write_rows = await Reembedding(database, None, None, _finished).plan_rows(job)

    async def prepare() -> None:
        async with database.transaction(collection_id=collection.id) as connection:
            await write_rows(connection, job_ref)

    trail = SlowTrail()
    use_case = IdentityAdministration(database, trail, ReadAuditBuffer(database, trail), ResponseLimits(), 64)
    erasing = asyncio.create_task(use_case.erase(collection.name, erased.id, SERVICE))
    await trail.reached.wait()
    preparing = asyncio.create_task(prepare())
    await asyncio.sleep(0.5)
    trail.proceed.set()
    await asyncio.gather(erasing, preparing)
    async with database.transaction(collection_id=collection.id) as connection:
        rows = await job_rows.rows_page(connection, job_ref, 10)
    assert [row.external_id for row in rows] == ["p1"]
