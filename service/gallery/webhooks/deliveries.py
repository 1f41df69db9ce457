"""Stores the deliveries of webhooks: one for each event and webhook."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from service.gallery.storage.paging import PageCursor, after_cursor
from service.gallery.storage.tables import job, webhook_delivery
from service.gallery.webhooks.webhooks import Webhook

MAX_PROBLEM = 300
PURGE_BATCH = 5_000


class DeliveryState(StrEnum):
    WAITING = "waiting"
    DELIVERED = "delivered"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event for one webhook.

    Attributes:
        attempts: requests that were sent.
        problem: why the last attempt has failed.
    """

    collection_id: uuid.UUID
    id: uuid.UUID
    webhook_id: uuid.UUID
    event: str
    body: Mapping[str, Any]
    state: DeliveryState
    attempts: int
    problem: str | None
    created_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """An event to deliver. `job_id`: of the job whose end it reports."""

    event: str
    body: Mapping[str, Any]
    job_id: uuid.UUID | None = None


async def add(connection: AsyncConnection, hook: Webhook, new: Sequence[NewDelivery]) -> list[uuid.UUID]:
    """Stores deliveries and returns their ids. A job that the webhook has reported already gets none."""
    rows = [
        {
            "collection_id": hook.collection_id,
            "id": uuid.uuid4(),
            "webhook_id": hook.id,
            "event": item.event,
            "body": dict(item.body),
            "job_id": item.job_id,
        }
        for item in new
    ]
    if not rows:
        return []
    statement = insert(webhook_delivery).values(rows).on_conflict_do_nothing().returning(webhook_delivery.c.id)
    return list((await connection.execute(statement)).scalars())


async def find(connection: AsyncConnection, collection_id: uuid.UUID, delivery_id: uuid.UUID) -> Delivery | None:
    """Returns a delivery; None if it was deleted."""
    statement = select(*_COLUMNS).where(
        webhook_delivery.c.collection_id == collection_id, webhook_delivery.c.id == delivery_id
    )
    row = (await connection.execute(statement)).one_or_none()
    return None if row is None else Delivery(**row._mapping)


async def page(
    connection: AsyncConnection, hook: Webhook, state: DeliveryState | None, limit: int, after: PageCursor | None
) -> list[Delivery]:
    """Returns up to `limit` deliveries of a webhook, oldest first."""
    statement = select(*_COLUMNS).where(
        webhook_delivery.c.collection_id == hook.collection_id, webhook_delivery.c.webhook_id == hook.id
    )
    if state is not None:
        statement = statement.where(webhook_delivery.c.state == state)
    rows = await connection.execute(after_cursor(statement, webhook_delivery, after, limit))
    return [Delivery(**row._mapping) for row in rows]


async def record(connection: AsyncConnection, delivery: Delivery, problem: str | None, is_last: bool) -> None:
    """Records an attempt.

    Args:
        problem: why it has failed; None: it has succeeded.
        is_last: there is no further attempt.
    """
    state = DeliveryState.DELIVERED if problem is None else DeliveryState.FAILED if is_last else DeliveryState.WAITING
    ended = state is not DeliveryState.WAITING
    statement = update(webhook_delivery).where(
        webhook_delivery.c.collection_id == delivery.collection_id, webhook_delivery.c.id == delivery.id
    )
    await connection.execute(
        statement.values(
            state=state,
            attempts=webhook_delivery.c.attempts + 1,
            problem=None if problem is None else problem[:MAX_PROBLEM],
            finished_at=func.now() if ended else None,
        )
    )


async def waiting(connection: AsyncConnection, limit: int) -> list[tuple[uuid.UUID, uuid.UUID]]:
    """Returns collection and id of up to `limit` waiting deliveries, oldest first."""
    statement = (
        select(webhook_delivery.c.collection_id, webhook_delivery.c.id)
        .where(webhook_delivery.c.state == DeliveryState.WAITING)
        .order_by(webhook_delivery.c.created_at)
        .limit(limit)
    )
    return [(row.collection_id, row.id) for row in await connection.execute(statement)]


async def purge(connection: AsyncConnection, keep_days: int) -> int:
    """Deletes finished deliveries that are old, in a batch; returns their number.

    One of a job stays as long as the job: the job would be reported again.
    """
    has_job = (
        select(job.c.id)
        .where(job.c.collection_id == webhook_delivery.c.collection_id, job.c.id == webhook_delivery.c.job_id)
        .exists()
    )
    old = (
        select(webhook_delivery.c.collection_id, webhook_delivery.c.id)
        .where(webhook_delivery.c.finished_at < func.now() - timedelta(days=keep_days), ~has_job)
        .limit(PURGE_BATCH)
        .subquery()
    )
    statement = delete(webhook_delivery).where(
        webhook_delivery.c.collection_id == old.c.collection_id, webhook_delivery.c.id == old.c.id
    )
    return (await connection.execute(statement)).rowcount


_COLUMNS = [webhook_delivery.c[field.name] for field in fields(Delivery)]
