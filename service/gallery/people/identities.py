"""Enrolled identities."""

import uuid
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, delete, func, select, true, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import Conflict, IdentityExists, IdentityNotFound
from service.gallery.jobs import rows as job_rows
from service.gallery.people.retention import IS_RETAINED
from service.gallery.storage import paging
from service.gallery.storage.paging import PageCursor, after_cursor
from service.gallery.storage.tables import collection, identity, shown_columns, template
from service.names import as_sent, comparable, forms


@dataclass(frozen=True, slots=True)
class Identity:
    """An identity's row.

    Attributes:
        named: False: the service has created the identity for a face of an unknown person.
        template_count: its templates under the collection's active model.
    """

    id: uuid.UUID
    external_id: str
    label: str
    metadata: dict[str, Any]
    created_at: datetime
    updated_at: datetime
    retain_until: datetime | None
    named: bool
    template_count: int


async def get(
    connection: AsyncConnection, collection_id: uuid.UUID, identity_id: uuid.UUID, with_expired: bool = False
) -> Identity:
    """Reads an identity by its id. Raises IdentityNotFound.

    Args:
        with_expired: also an identity whose retention time has passed.
    """
    statement = _with_count(collection_id).where(identity.c.id == identity_id, _is_visible(with_expired))
    return await _read(connection, statement, f"the identity {identity_id} does not exist")


async def get_by_external_id(connection: AsyncConnection, collection_id: uuid.UUID, external_id: str) -> Identity:
    """Reads an identity by the client's id. Raises IdentityNotFound."""
    statement = _with_count(collection_id).where(identity.c.external_id == comparable(external_id), IS_RETAINED)
    return await _read(connection, statement, f"no identity has the external_id {external_id!r}")


async def lock(
    connection: AsyncConnection, collection_id: uuid.UUID, identity_id: uuid.UUID, with_expired: bool = False
) -> None:
    """Locks an identity until the transaction ends; its templates must be changed under this lock only.

    Raises:
        IdentityNotFound
    """
    if not await lock_all(connection, collection_id, [identity_id], with_expired):
        raise _not_found(f"the identity {identity_id} does not exist")


async def lock_all(
    connection: AsyncConnection,
    collection_id: uuid.UUID,
    identity_ids: Collection[uuid.UUID],
    with_expired: bool = False,
) -> set[uuid.UUID]:
    """Locks several identities in the order of their ids, which prevents deadlocks; returns those that exist."""
    statement = (
        select(identity.c.id)
        .where(identity.c.collection_id == collection_id, identity.c.id.in_(identity_ids), _is_visible(with_expired))
        .order_by(identity.c.id)
        .with_for_update()
    )
    return set((await connection.execute(statement)).scalars())


async def change(
    connection: AsyncConnection, collection_id: uuid.UUID, identity_id: uuid.UUID, **changes: Any
) -> Identity:
    """Sets columns of an identity. No row with an embedding is rewritten. Raises IdentityNotFound."""
    if changes:
        statement = update(identity).where(identity.c.collection_id == collection_id, identity.c.id == identity_id)
        await connection.execute(statement.where(IS_RETAINED).values(**changes, updated_at=func.statement_timestamp()))
    return await get(connection, collection_id, identity_id)


async def set_name(
    connection: AsyncConnection, collection_id: uuid.UUID, identity_id: uuid.UUID, external_id: str
) -> None:
    """Gives an unnamed identity its external id, which also becomes its label.

    Raises:
        IdentityNotFound, IdentityExists
        Conflict: the identity has a name.
    """
    current = await get(connection, collection_id, identity_id)
    is_unnamed = (identity.c.id == identity_id) & ~identity.c.named
    if not await _rename(connection, collection_id, current, external_id, is_unnamed):
        raise Conflict(
            f"the identity has the external_id {current.external_id!r}, and only one without a name can get another",
            pointer="/external_id",
        )


async def rename(
    connection: AsyncConnection, collection_id: uuid.UUID, identity_id: uuid.UUID, external_id: str
) -> None:
    """Gives an identity another external id, which also becomes its label. Raises IdentityNotFound, IdentityExists."""
    current = await get(connection, collection_id, identity_id)
    await _rename(connection, collection_id, current, external_id, identity.c.id == identity_id)


async def page(
    connection: AsyncConnection,
    collection_id: uuid.UUID,
    limit: int,
    after: PageCursor | None = None,
    label: str | None = None,
    external_id: str | None = None,
    named: bool | None = None,
    condition: ColumnElement[bool] | None = None,
) -> list[Identity]:
    """Returns up to `limit` identities in the order of their creation, beginning after a cursor.

    A full page waits for the transactions that may yet commit an identity that belongs to it.

    Args:
        label: only identities with exactly this label, in NFC or NFD.
        external_id: only the identity with this external id.
        named: only identities with a name (True) or without one (False).
        condition: a condition on `identity`.
    """
    statement = _with_count(collection_id).where(IS_RETAINED)
    if label is not None:
        statement = statement.where(identity.c.label.in_(forms(label)))
    if external_id is not None:
        statement = statement.where(identity.c.external_id == comparable(external_id))
    if named is not None:
        statement = statement.where(identity.c.named if named else ~identity.c.named)
    if condition is not None:
        statement = statement.where(condition)
    statement = after_cursor(statement, identity, after, limit)
    rows = (await connection.execute(statement)).all()
    if len(rows) == limit and await paging.await_earlier_rows(connection, collection_id, rows[-1].created_at):
        rows = (await connection.execute(statement)).all()
    return [_identity(row) for row in rows]


async def remove(connection: AsyncConnection, collection_id: uuid.UUID, identity_id: uuid.UUID) -> int:
    """Deletes an identity with its rows in all tables except the audit trail.

    Returns:
        The number of deleted templates of the active model.

    Raises:
        IdentityNotFound
    """
    row = await get(connection, collection_id, identity_id, with_expired=True)
    await job_rows.delete_person_rows(connection, collection_id, identity_id, row.external_id)
    statement = delete(identity).where(identity.c.collection_id == collection_id, identity.c.id == identity_id)
    if (await connection.execute(statement)).rowcount == 0:  # a concurrent request deleted it first
        raise _not_found(f"the identity {identity_id} does not exist")
    return row.template_count


async def _rename(
    connection: AsyncConnection,
    collection_id: uuid.UUID,
    current: Identity,
    external_id: str,
    condition: ColumnElement[bool],
) -> bool:
    """Sets the external id of the identity that fulfils the condition. Returns False if there is none."""
    names = {"external_id": comparable(external_id), "external_id_sent": as_sent(external_id), "label": external_id}
    statement = update(identity).where(identity.c.collection_id == collection_id, condition)
    try:
        changed = await connection.execute(statement.values(**names, named=True, updated_at=func.statement_timestamp()))
    except IntegrityError as error:
        raise IdentityExists(
            f"an identity with the external_id {external_id!r} exists; merge the two", pointer="/external_id"
        ) from error
    if changed.rowcount:
        await job_rows.rename_person(connection, collection_id, current.external_id, external_id)
    return bool(changed.rowcount)


def _is_visible(with_expired: bool) -> ColumnElement[bool]:
    return true() if with_expired else IS_RETAINED


def _with_count(collection_id: uuid.UUID) -> Select[Any]:
    model_id = select(collection.c.model_id).where(collection.c.id == collection_id).scalar_subquery()
    count = (
        select(func.count())
        .select_from(template)
        .where(
            template.c.collection_id == collection_id,
            template.c.identity_id == identity.c.id,
            template.c.model_id == model_id,
        )
        .scalar_subquery()
    )
    return select(*shown_columns(identity), count.label("template_count")).where(
        identity.c.collection_id == collection_id
    )


async def _read(connection: AsyncConnection, statement: Select[Any], problem: str) -> Identity:
    row = (await connection.execute(statement)).one_or_none()
    if row is None:
        raise _not_found(problem)
    return _identity(row)


def _not_found(problem: str) -> IdentityNotFound:
    return IdentityNotFound(problem)


def _identity(row: Row[Any]) -> Identity:
    values = dict(row._mapping)
    del values["collection_id"]
    return Identity(**values)
