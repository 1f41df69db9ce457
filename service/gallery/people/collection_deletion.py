"""Deletion of a collection: it disappears at once, and its rows are deleted in batches, each in its own transaction.

One transaction for a million identities would exceed every time limit and hold its locks for minutes.
"""

import time
import uuid

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import Conflict
from service.gallery.people import collections
from service.gallery.people.collections import DEFAULT
from service.gallery.storage.database import LONG_S, Database
from service.gallery.storage.tables import (
    centroid,
    collection,
    correction,
    crop,
    group_member,
    idempotency,
    identity,
    job,
    job_row,
    template,
)

BATCH = 2_000
"""Identities that one transaction deletes."""
DELETED_NAME = "~{}"
"""Name of a deleted collection. No request can name it, and its former name is free."""
OF_IDENTITIES = (template, centroid, correction, crop, idempotency, group_member)


async def mark_deleted(connection: AsyncConnection, name: str) -> tuple[uuid.UUID, int]:
    """Hides a collection from all requests and jobs, and frees its name.

    Returns:
        The collection's id and its number of identities.

    Raises:
        CollectionNotFound
        Conflict: it is the default collection, which always exists.
    """
    if name == DEFAULT:
        raise Conflict(f"the collection {DEFAULT!r} always exists; delete the identities in it", pointer="/name")
    # A concurrent enrolment waits for this lock and then gets CollectionNotFound.
    locked = await collections.get(connection, name, "/name", lock="update")
    count = select(func.count()).where(identity.c.collection_id == locked.id)
    identities = (await connection.execute(count)).scalar_one()
    values = {"name": DELETED_NAME.format(locked.id), "deleted_at": func.now()}
    await connection.execute(update(collection).where(collection.c.id == locked.id).values(values))
    return locked.id, identities


async def pending(connection: AsyncConnection) -> list[uuid.UUID]:
    """Returns the ids of the deleted collections that still have rows, the oldest deletion first."""
    statement = select(collection.c.id).where(collection.c.deleted_at.is_not(None)).order_by(collection.c.deleted_at)
    return list((await connection.execute(statement)).scalars())


async def delete_rows(database: Database, collection_id: uuid.UUID, until: float | None = None) -> int:
    """Deletes the rows of a deleted collection in batches, and the collection itself when it is empty.

    Args:
        until: time of `time.monotonic` at which no further batch is started; None: until it is empty.

    Returns:
        The number of deleted identities.
    """
    deleted = 0
    while until is None or time.monotonic() < until:
        async with database.transaction(collection_id=collection_id, timeout_s=LONG_S) as connection:
            if batch := await _delete_batch(connection, collection_id):
                deleted += batch
                continue
            if await _delete_job_rows(connection, collection_id):
                continue
            await connection.execute(delete(collection).where(_is_deleted(collection_id)))
            return deleted
    return deleted


async def _delete_batch(connection: AsyncConnection, collection_id: uuid.UUID) -> int:
    """Deletes up to `BATCH` identities with their rows; returns their number."""
    chosen = select(identity.c.id).where(identity.c.collection_id == collection_id).limit(BATCH)
    ids = (await connection.execute(chosen.with_for_update(skip_locked=True))).scalars().all()
    if not ids:
        return 0
    for table in OF_IDENTITIES:
        of_ids = table.c.collection_id == collection_id, table.c.identity_id.in_(ids)
        await connection.execute(delete(table).where(*of_ids))
    statement = delete(identity).where(identity.c.collection_id == collection_id, identity.c.id.in_(ids))
    return (await connection.execute(statement)).rowcount


async def _delete_job_rows(connection: AsyncConnection, collection_id: uuid.UUID) -> int:
    """Deletes one job of the collection with its rows; returns 1 or 0."""
    oldest = select(job.c.id).where(job.c.collection_id == collection_id).limit(1).scalar_subquery()
    of_job = job_row.c.collection_id == collection_id, job_row.c.job_id == oldest
    await connection.execute(delete(job_row).where(*of_job))
    statement = delete(job).where(job.c.collection_id == collection_id, job.c.id == oldest)
    return (await connection.execute(statement)).rowcount


def _is_deleted(collection_id: uuid.UUID) -> ColumnElement[bool]:
    return (collection.c.id == collection_id) & collection.c.deleted_at.is_not(None)
