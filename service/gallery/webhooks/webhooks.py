"""Stores webhooks."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import Select, any_, delete, exists, func, insert, literal, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import WebhookNotFound
from service.gallery.storage.paging import PageCursor, after_cursor
from service.gallery.storage.tables import audit_head, collection, job, webhook, webhook_delivery
from service.gallery.webhooks.events import WebhookEvent

MAX_DUE, MAX_JOBS = 100, 100
"""Webhooks with new entries and webhooks with ended jobs that one round looks after, and ended jobs of each."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """A URL that gets the events of a collection.

    Attributes:
        last_number: last entry of the audit trail for which deliveries exist.
    """

    collection_id: uuid.UUID
    id: uuid.UUID
    url: str
    events: list[str]
    last_number: int
    created_at: datetime


async def add(
    connection: AsyncConnection, collection_id: uuid.UUID, url: str, events: Sequence[WebhookEvent]
) -> Webhook:
    """Stores a webhook, which reports what happens from now on."""
    last = select(audit_head.c.number).where(audit_head.c.collection_id == collection_id)
    number = (await connection.execute(last)).scalar_one_or_none()  # Citus permits no sub-select in an INSERT
    values = {
        "collection_id": collection_id,
        "id": uuid.uuid4(),
        "url": url,
        "events": sorted(set(events)),
        "last_number": number or 0,
    }
    row = (await connection.execute(insert(webhook).values(values).returning(*webhook.c))).one()
    return Webhook(**row._mapping)


async def count(connection: AsyncConnection, collection_id: uuid.UUID) -> int:
    statement = select(func.count()).where(webhook.c.collection_id == collection_id)
    return (await connection.execute(statement)).scalar_one()


async def page(
    connection: AsyncConnection, collection_id: uuid.UUID, limit: int, after: PageCursor | None = None
) -> list[Webhook]:
    """Returns up to `limit` webhooks of a collection, oldest first."""
    statement = after_cursor(_webhooks().where(webhook.c.collection_id == collection_id), webhook, after, limit)
    return [Webhook(**row._mapping) for row in await connection.execute(statement)]


async def get(connection: AsyncConnection, collection_id: uuid.UUID, webhook_id: uuid.UUID) -> Webhook:
    """Returns a webhook. Raises WebhookNotFound."""
    statement = _webhooks().where(webhook.c.collection_id == collection_id, webhook.c.id == webhook_id)
    row = (await connection.execute(statement)).one_or_none()
    if row is None:
        raise WebhookNotFound(f"the collection has no webhook {webhook_id}")
    return Webhook(**row._mapping)


async def remove(connection: AsyncConnection, collection_id: uuid.UUID, webhook_id: uuid.UUID) -> None:
    """Deletes a webhook with its deliveries. Raises WebhookNotFound."""
    statement = delete(webhook).where(webhook.c.collection_id == collection_id, webhook.c.id == webhook_id)
    if not (await connection.execute(statement)).rowcount:
        raise WebhookNotFound(f"the collection has no webhook {webhook_id}")


async def due(connection: AsyncConnection) -> list[Webhook]:
    """Returns webhooks of all collections that may have new events.

    Entries and jobs have a statement each: Citus permits no alternative of two tables.
    """
    existing = _webhooks().join(collection, collection.c.id == webhook.c.collection_id)
    existing = existing.where(collection.c.deleted_at.is_(None)).limit(MAX_DUE)
    same = audit_head.c.collection_id == webhook.c.collection_id
    with_entries = existing.join(audit_head, same).where(audit_head.c.number > webhook.c.last_number)
    ended = _unreported(webhook.c.collection_id, webhook.c.id, webhook.c.created_at)
    with_jobs = existing.where(
        literal(WebhookEvent.JOB_DONE.value) == any_(webhook.c.events), exists(ended.correlate(webhook))
    )
    found: dict[uuid.UUID, Webhook] = {}
    for statement in (with_entries, with_jobs):
        found |= {row.id: Webhook(**row._mapping) for row in await connection.execute(statement)}
    return list(found.values())  # all, so that webhooks with many entries do not delay those of jobs


async def unreported_jobs(connection: AsyncConnection, hook: Webhook) -> list[uuid.UUID]:
    """Returns the ids of jobs that have ended since a webhook exists and that it has not reported."""
    statement = _unreported(hook.collection_id, hook.id, hook.created_at).limit(MAX_JOBS)
    return list((await connection.execute(statement)).scalars())


async def lock(connection: AsyncConnection, hook: Webhook) -> Webhook | None:
    """Returns a webhook as it is now, locked; None if it was deleted or another process looks after it."""
    statement = _webhooks().where(webhook.c.collection_id == hook.collection_id, webhook.c.id == hook.id)
    row = (await connection.execute(statement.with_for_update(skip_locked=True))).one_or_none()
    return None if row is None else Webhook(**row._mapping)


async def advance(connection: AsyncConnection, hook: Webhook, number: int) -> None:
    """Records the last entry of the audit trail for which deliveries exist."""
    statement = update(webhook).where(webhook.c.collection_id == hook.collection_id, webhook.c.id == hook.id)
    await connection.execute(statement.values(last_number=number))


def _unreported(collection_id: Any, webhook_id: Any, since: Any) -> Select[Any]:
    """Returns the query of `unreported_jobs`. The arguments are values or columns."""
    reported = (
        exists()
        .where(
            webhook_delivery.c.collection_id == job.c.collection_id,
            webhook_delivery.c.webhook_id == webhook_id,
            webhook_delivery.c.job_id == job.c.id,
        )
        .correlate(job, webhook)
    )
    return select(job.c.id).where(job.c.collection_id == collection_id, job.c.finished_at >= since, ~reported)


def _webhooks() -> Select[tuple[object, ...]]:
    return select(*(webhook.c[field.name] for field in fields(Webhook)))
