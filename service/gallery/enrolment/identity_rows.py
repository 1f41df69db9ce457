"""Inserts the rows of identities, or locks and changes existing ones."""

import uuid
from datetime import datetime
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import CollectionNotFound
from service.gallery.people.retention import IS_RETAINED
from service.gallery.storage.tables import identity


async def lock_or_create(
    connection: AsyncConnection,
    collection_id: uuid.UUID,
    external_id: str,
    label: str | None = None,
    metadata: dict[str, Any] | None = None,
    retain_until: datetime | None = None,
    may_change: bool = True,
) -> tuple[Any, bool] | None:
    """Inserts the identity or updates the existing one; its row stays locked until the transaction ends.

    The lock serialises concurrent enrolments of one identity, so that each computes the centroid from all templates.
    None leaves an existing identity's value unchanged. Returns the row, and True if it is new; None if an identity past
    its retention time has this external id.

    Args:
        may_change: set the values of an existing identity.

    Raises:
        CollectionNotFound: the collection was deleted while the pictures were observed.
    """
    updates = {"label": label, "metadata": metadata, "retain_until": retain_until}
    changes = {name: value for name, value in updates.items() if value is not None}
    defaults = {"label": external_id, "metadata": {}}
    new = {"collection_id": collection_id, "id": uuid.uuid4(), "external_id": external_id, **defaults, **changes}
    statement = _upsert(frozenset(new), frozenset(changes if may_change else ()))
    try:
        row = (await connection.execute(statement, {f"new_{name}": value for name, value in new.items()})).one_or_none()
    except IntegrityError as error:
        raise CollectionNotFound("the collection was deleted during the request", pointer="/collection") from error
    return None if row is None else (row, row.created)


@cache
def _upsert(columns: frozenset[str], changed: frozenset[str]) -> Any:
    """Returns the statement that inserts an identity with these columns, or changes some of an existing one."""
    values = {name: sa.bindparam(f"new_{name}", type_=identity.c[name].type) for name in columns}
    # Not now(), which is the start of the transaction: `duplicates.RECENT_S` bounds the time from here to the commit.
    time = {"updated_at": sa.func.clock_timestamp()}
    insertion = insert(identity).values(values | time)
    updated = {name: insertion.excluded[name] for name in changed} | time
    key = ["collection_id", "external_id"]
    insertion = insertion.on_conflict_do_update(index_elements=key, set_=updated, where=IS_RETAINED)
    return insertion.returning(identity, sa.literal_column("(xmax = 0)").label("created"))
