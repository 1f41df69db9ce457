"""Erases identities with everything that is stored about them."""

import uuid
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import CollectionNotFound
from service.gallery.access.audit_entries import SERVICE, Action, Actor, Entry, Event
from service.gallery.access.audit_trail import AuditTrail
from service.gallery.jobs import rows as job_rows
from service.gallery.people import collections, corrections, identities
from service.gallery.storage.tables import (
    centroid,
    correction,
    crop,
    group_member,
    idempotency,
    identity,
    job_row,
    template,
)
from service.names import comparable

EXPIRED_BATCH = 200
"""Maximum number of identities that `expired` returns."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """The result of an erasure.

    Attributes:
        deleted: number of deleted rows by kind.
        entry: the entry of the audit trail; None: the service keeps no audit trail.
    """

    identity_id: uuid.UUID
    deleted: dict[str, int]
    entry: Entry | None


async def erase(
    connection: AsyncConnection,
    audit_trail: AuditTrail,
    collection_id: uuid.UUID,
    identity_id: uuid.UUID,
    actor: Actor,
    action: Action = Action.ERASE,
) -> Receipt:
    """Deletes an identity with its templates, centroids, crops, stored responses and job rows.

    The collection must be locked with `share`: a job that inserts rows about identities waits for this transaction.

    Raises:
        IdentityNotFound
    """
    await identities.lock(connection, collection_id, identity_id, with_expired=True)
    erased = await identities.get(connection, collection_id, identity_id, with_expired=True)
    deleted = {
        name: (await connection.execute(statement)).scalar_one()
        for name, statement in _counts(collection_id, identity_id, erased.external_id).items()
    }
    deleted["corrections"] += await corrections.delete_showing(connection, collection_id, [identity_id])
    await identities.remove(connection, collection_id, identity_id)
    entries = await audit_trail.append(connection, collection_id, [Event(action, actor, identity_id, deleted)])
    return Receipt(identity_id, deleted, entries[-1] if entries else None)


async def expired(
    connection: AsyncConnection, except_for: Collection[uuid.UUID] = ()
) -> list[tuple[uuid.UUID, uuid.UUID]]:
    """Returns (collection id, identity id) of up to 200 identities whose retention time has passed.

    Args:
        except_for: ids of identities that are left out.
    """
    statement = (
        select(identity.c.collection_id, identity.c.id)
        .where(identity.c.retain_until <= func.now(), identity.c.id.not_in(except_for))
        .order_by(identity.c.retain_until)
        .limit(EXPIRED_BATCH)
    )
    return [(row.collection_id, row.id) for row in await connection.execute(statement)]


async def expire_external_id(
    connection: AsyncConnection, audit_trail: AuditTrail, collection_id: uuid.UUID, external_id: str
) -> None:
    """Erases the identity with this external id if its retention time has passed."""
    statement = select(identity.c.id).where(
        identity.c.collection_id == collection_id, identity.c.external_id == comparable(external_id)
    )
    if (identity_id := (await connection.execute(statement)).scalar()) is not None:
        await expire(connection, audit_trail, collection_id, identity_id)


async def expire(
    connection: AsyncConnection, audit_trail: AuditTrail, collection_id: uuid.UUID, identity_id: uuid.UUID
) -> None:
    """Erases an identity whose retention time has passed, unless it was extended or erased concurrently."""
    try:
        await collections.get_by_id(connection, collection_id, lock="share")
    except CollectionNotFound:
        return
    statement = (
        select(identity.c.id)
        .where(
            identity.c.collection_id == collection_id,
            identity.c.id == identity_id,
            identity.c.retain_until <= func.now(),
        )
        .with_for_update()
    )
    if (await connection.execute(statement)).one_or_none() is not None:
        await erase(connection, audit_trail, collection_id, identity_id, SERVICE, Action.EXPIRE)


def _counts(collection_id: uuid.UUID, identity_id: uuid.UUID, external_id: str) -> dict[str, Select[Any]]:
    tables = {
        "templates": template,
        "centroids": centroid,
        "corrections": correction,
        "crops": crop,
        "responses": idempotency,
        "group_memberships": group_member,
    }
    counts = {
        name: select(func.count()).where(table.c.collection_id == collection_id, table.c.identity_id == identity_id)
        for name, table in tables.items()
    }
    rows = job_rows.names_person(external_id) | (job_row.c.identity_id == identity_id)
    counts["job_rows"] = select(func.count()).where(job_row.c.collection_id == collection_id, rows)
    return counts
