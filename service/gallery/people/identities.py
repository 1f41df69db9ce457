"""Enrolled people."""

import uuid
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, delete, func, literal_column, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import CollectionNotFound, IdentityNotFound
from service.gallery.jobs import jobs
from service.gallery.storage.paging import PageCursor, after_cursor
from service.gallery.storage.tables import collection, identity, template


@dataclass(frozen=True, slots=True)
class Identity:
    id: uuid.UUID
    external_id: str
    label: str
    metadata: dict[str, Any]
    created_at: datetime
    updated_at: datetime
    retain_until: datetime | None
    template_count: int


async def lock_or_create(
    connection: AsyncConnection,
    collection_id: uuid.UUID,
    external_id: str,
    label: str | None,
    metadata: dict[str, Any] | None,
    retain_until: datetime | None = None,
) -> tuple[uuid.UUID, bool]:
    """The identity's id and whether it is new. Its row stays locked until the transaction ends.

    The lock lines up those who enrol the same person at once, so that each recomputes the centroid from all
    templates. `None` leaves what an existing person has as it is.

    Raises:
        CollectionNotFound: it went while we were looking at the pictures.
    """
    values = {
        "collection_id": collection_id,
        "id": uuid.uuid4(),
        "external_id": external_id,
        "label": label if label is not None else external_id,
        "metadata": metadata or {},
        "retain_until": retain_until,
    }
    changed = {"label": label, "metadata": metadata, "retain_until": retain_until}
    changes = {name: value for name, value in changed.items() if value is not None}
    statement = (
        insert(identity)
        .values(values)
        .on_conflict_do_update(
            index_elements=["collection_id", "external_id"],
            # Something must be set for the row to be locked and returned.
            set_={"external_id": external_id, **changes, **({"updated_at": func.now()} if changes else {})},
        )
        .returning(identity.c.id, literal_column("(xmax = 0)").label("created"))
    )
    try:
        row = (await connection.execute(statement)).one()
    except IntegrityError as error:
        raise CollectionNotFound("the collection was deleted meanwhile", pointer="/collection") from error
    return row.id, row.created


async def get(connection: AsyncConnection, collection_id: uuid.UUID, identity_id: uuid.UUID) -> Identity:
    """Raises IdentityNotFound."""
    statement = _with_count(collection_id).where(identity.c.id == identity_id)
    return await _one(connection, statement, f"there is no identity {identity_id} in this collection")


async def get_by_external_id(connection: AsyncConnection, collection_id: uuid.UUID, external_id: str) -> Identity:
    """Raises IdentityNotFound."""
    statement = _with_count(collection_id).where(identity.c.external_id == external_id)
    return await _one(
        connection, statement, f"there is no identity with external_id {external_id!r} in this collection"
    )


async def lock(connection: AsyncConnection, collection_id: uuid.UUID, identity_id: uuid.UUID) -> None:
    """Nobody else changes the person's templates until the transaction ends. Raises IdentityNotFound."""
    statement = (
        select(identity.c.id)
        .where(identity.c.collection_id == collection_id, identity.c.id == identity_id)
        .with_for_update()
    )
    if (await connection.execute(statement)).one_or_none() is None:
        raise IdentityNotFound(f"there is no identity {identity_id} in this collection")


async def lock_all(
    connection: AsyncConnection, collection_id: uuid.UUID, identity_ids: Collection[uuid.UUID]
) -> set[uuid.UUID]:
    """As `lock`, several at once in one order, so that nobody waits for one who waits; those that there are."""
    statement = (
        select(identity.c.id)
        .where(identity.c.collection_id == collection_id, identity.c.id.in_(identity_ids))
        .order_by(identity.c.id)
        .with_for_update()
    )
    return set((await connection.execute(statement)).scalars())


async def change(
    connection: AsyncConnection, collection_id: uuid.UUID, identity_id: uuid.UUID, **changes: Any
) -> Identity:
    """Set columns of a person. No row with an embedding is touched. Raises IdentityNotFound."""
    if changes:
        statement = update(identity).where(identity.c.collection_id == collection_id, identity.c.id == identity_id)
        await connection.execute(statement.values(**changes, updated_at=func.now()))
    return await get(connection, collection_id, identity_id)


async def page(
    connection: AsyncConnection,
    collection_id: uuid.UUID,
    limit: int,
    after: PageCursor | None = None,
    label: str | None = None,
    external_id: str | None = None,
    among: ColumnElement[bool] | None = None,
) -> list[Identity]:
    """Up to `limit` people in the order of their enrolment, beginning after a place.

    Those with that label, that id, or who fulfil a condition on `identity`.
    """
    statement = _with_count(collection_id)
    if label is not None:
        statement = statement.where(identity.c.label == label)
    if external_id is not None:
        statement = statement.where(identity.c.external_id == external_id)
    if among is not None:
        statement = statement.where(among)
    return [_identity(row) for row in await connection.execute(after_cursor(statement, identity, after, limit))]


async def remove(connection: AsyncConnection, collection_id: uuid.UUID, identity_id: uuid.UUID) -> int:
    """Delete a person with all templates and centroids; how many templates there were. Raises IdentityNotFound."""
    person = await get(connection, collection_id, identity_id)
    await jobs.delete_person_rows(connection, collection_id, identity_id, person.external_id)
    statement = delete(identity).where(identity.c.collection_id == collection_id, identity.c.id == identity_id)
    if (await connection.execute(statement)).rowcount == 0:
        raise IdentityNotFound(f"there is no identity {identity_id} in this collection")  # another request was faster
    return person.template_count


def _with_count(collection_id: uuid.UUID) -> Select[Any]:
    """With the number of templates under the collection's own model."""
    model_id = select(collection.c.model_id).where(collection.c.id == collection_id).scalar_subquery()
    count = (
        select(func.count())
        .select_from(template)
        .where(
            template.c.collection_id == identity.c.collection_id,
            template.c.identity_id == identity.c.id,
            template.c.model_id == model_id,
        )
        .scalar_subquery()
    )
    return select(identity, count.label("template_count")).where(identity.c.collection_id == collection_id)


async def _one(connection: AsyncConnection, statement: Select[Any], missing: str) -> Identity:
    row = (await connection.execute(statement)).one_or_none()
    if row is None:
        raise IdentityNotFound(missing)
    return _identity(row)


def _identity(row: Row[Any]) -> Identity:
    values = dict(row._mapping)
    del values["collection_id"]
    return Identity(**values)
