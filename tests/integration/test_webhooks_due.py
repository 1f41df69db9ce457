"""Which webhooks have new events."""

import uuid

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from service.gallery.jobs import jobs
from service.gallery.jobs.records import JobRef
from service.gallery.people.collections import Collection
from service.gallery.storage.database import Database
from service.gallery.webhooks import deliveries, webhooks
from service.gallery.webhooks.deliveries import NewDelivery
from service.gallery.webhooks.events import WebhookEvent

pytestmark = pytest.mark.anyio


async def test_a_webhook_is_due_until_it_has_reported_an_ended_job_itself(
    database: Database, collection: Collection
) -> None:
    job_ref = JobRef(collection.id, uuid.uuid4())
    async with database.transaction(collection_id=collection.id) as connection:
        hooks = [
            await webhooks.add(connection, collection.id, f"https://{name}.example", [WebhookEvent.JOB_DONE])
            for name in ("first", "second")
        ]
        await jobs.create(connection, job_ref, "test", {})
        assert await due(connection, collection) == set()
        await jobs.cancel(connection, job_ref)
        assert await due(connection, collection) == {hook.id for hook in hooks}
        for hook in hooks:
            assert await webhooks.unreported_jobs(connection, hook) == [job_ref.id]
        await deliveries.add(connection, hooks[0], [NewDelivery(WebhookEvent.JOB_DONE, {}, job_ref.id)])
        assert await due(connection, collection) == {hooks[1].id}
        assert await webhooks.unreported_jobs(connection, hooks[0]) == []


async def due(connection: AsyncConnection, collection: Collection) -> set[uuid.UUID]:
    return {hook.id for hook in await webhooks.due(connection) if hook.collection_id == collection.id}
