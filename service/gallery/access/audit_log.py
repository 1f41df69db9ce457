"""Reads entries and heads of the audit trail."""

import uuid
from collections.abc import AsyncIterator

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.gallery.access.audit_entries import Action, Entry, Head
from service.gallery.storage.tables import audit, audit_head, labelled

PAGE_ENTRIES = 1000


async def read_all(connection: AsyncConnection, collection_id: uuid.UUID) -> AsyncIterator[Entry]:
    """Yields every entry of a chain in the order of the entry numbers."""
    after = 0
    while entries := await page(connection, collection_id, PAGE_ENTRIES, after):
        for entry in entries:
            yield entry
        after = entries[-1].number


async def page(
    connection: AsyncConnection,
    collection_id: uuid.UUID,
    limit: int,
    after: int = 0,
    identity_id: uuid.UUID | None = None,
    action: Action | None = None,
) -> list[Entry]:
    """Returns up to `limit` entries of a collection whose numbers are higher than `after`, oldest first.

    Args:
        identity_id: only entries about this identity.
        action: only entries of this kind.
    """
    statement = select(*labelled(audit)).where(audit.c.collection_id == collection_id, audit.c.number > after)
    if identity_id is not None:
        statement = statement.where(audit.c.identity_id == identity_id)
    if action is not None:
        statement = statement.where(audit.c.action == action)
    return [Entry(**row._mapping) for row in await connection.execute(statement.order_by(audit.c.number).limit(limit))]


async def find_head(connection: AsyncConnection, collection_id: uuid.UUID) -> Head | None:
    """Returns the head of a collection's chain; None if the chain is empty."""
    statement = select(*labelled(audit_head)).where(audit_head.c.collection_id == collection_id)
    row = (await connection.execute(statement)).one_or_none()
    return None if row is None else Head(**row._mapping)


async def heads(connection: AsyncConnection, collection_id: uuid.UUID | None = None) -> list[Head]:
    """Returns the head of one collection's chain, or of every chain including those of deleted collections."""
    statement = select(*labelled(audit_head)).order_by(audit_head.c.collection_id)
    if collection_id is not None:
        statement = statement.where(audit_head.c.collection_id == collection_id)
    return [Head(**row._mapping) for row in await connection.execute(statement)]


async def chains(connection: AsyncConnection) -> list[uuid.UUID]:
    """Returns the ids of the collections that have an entry or a head."""
    both = select(audit.c.collection_id).union(select(audit_head.c.collection_id)).subquery()
    return list((await connection.execute(select(both.c.collection_id).order_by(both.c.collection_id))).scalars())


async def count(connection: AsyncConnection) -> int:
    """Returns the number of entries that the transaction may see."""
    return (await connection.execute(select(func.count()).select_from(audit))).scalar_one()
