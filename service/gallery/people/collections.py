"""Collections and the models to which they are bound."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Row, Select, bindparam, exists, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import CollectionExists, CollectionNotFound, StartupError
from service.gallery.storage import row_security
from service.gallery.storage.local_collections import local_collection
from service.gallery.storage.tables import collection, identity, model

DEFAULT = "default"
"""The collection that always exists."""
Lock = Literal["share", "update"]
"""Row locks of a collection, held until the transaction ends.

`share`: no other transaction changes the collection. `update`: in addition, no other transaction holds `share`.
"""


class ModelsChangedError(Exception):
    """The collection's models changed after the pictures were observed; they must be observed again."""


@dataclass(frozen=True, slots=True)
class Collection:
    """A collection's row.

    Attributes:
        secondary_model_id: model that embeds every new face in addition to `model_id`, so that it can replace it.
        additions: `match`: pictures that a caller without the scope `manage` adds to an identity must match it.
        auto_activate: the secondary model becomes the active one as soon as it has embedded every identity.
    """

    id: uuid.UUID
    name: str
    model_id: str
    fmr: float | None
    fpir: float | None
    quality: str
    duplicates: str
    created_at: datetime
    secondary_model_id: str | None = None
    auto_activate: bool = False
    store_crops: bool = False
    additions: str = "match"

    @property
    def models(self) -> tuple[str, str | None, bool]:
        """The properties that determine how a face is stored: active model, secondary model, and storage of crops."""
        return self.model_id, self.secondary_model_id, self.store_crops


async def add_model(
    connection: AsyncConnection, model_id: str, dim: int, fingerprint: str, supersedes: Sequence[str] = ()
) -> None:
    """Registers a model if it is unknown.

    Args:
        supersedes: fingerprints of earlier files of the bundle with identical outputs.

    Raises:
        StartupError: another bundle has the same id; embeddings of the two must not be compared.
    """
    known = await _model(connection, model_id)
    if known is None:
        try:
            async with connection.begin_nested():
                await connection.execute(insert(model).values(id=model_id, dim=dim, fingerprint=fingerprint))
            return
        except IntegrityError:  # another process has registered it; Citus needs more rights for ON CONFLICT
            known = await _model(connection, model_id)
    assert known is not None
    if known.dim != dim or known.fingerprint not in {fingerprint, *supersedes}:
        raise StartupError(
            f"The database already has another model with the id {model_id!r}; its embeddings cannot be compared with "
            "those of this bundle. Export the bundle again with a new model id."
        )


async def _model(connection: AsyncConnection, model_id: str) -> Row[Any] | None:
    return (await connection.execute(select(model).where(model.c.id == model_id))).one_or_none()


async def dim_of(connection: AsyncConnection, model_id: str) -> int:
    """Returns the number of dimensions of a registered model."""
    return (await connection.execute(select(model.c.dim).where(model.c.id == model_id))).scalar_one()


async def create(connection: AsyncConnection, name: str, model_id: str, **settings: Any) -> Collection:
    """Inserts a collection; `settings` are columns that differ from their defaults. Raises CollectionExists."""
    statement = (
        insert(collection)
        .values(id=uuid.uuid4(), name=name, model_id=model_id, **settings)
        .on_conflict_do_nothing()
        .returning(*_COLUMNS)
    )
    row = (await connection.execute(statement)).one_or_none()
    if row is None:
        raise CollectionExists(f"a collection {name!r} already exists; choose another name", pointer="/name")
    return await _allowed(connection, row)


async def get(
    connection: AsyncConnection, name: str, pointer: str = "/collection", lock: Lock | None = None
) -> Collection:
    """Reads a collection, locks it and adds it to those that the transaction may see, in one statement.

    Args:
        pointer: JSON pointer of the collection's name in the request.

    Raises:
        CollectionNotFound
    """
    return await _read(connection, _BY_NAME, lock, name, pointer)


async def get_by_id(connection: AsyncConnection, collection_id: uuid.UUID, lock: Lock | None = None) -> Collection:
    """Reads a collection like `get`, but by its id. Raises CollectionNotFound."""
    return await _read(connection, _BY_ID, lock, collection_id, None)


async def names(connection: AsyncConnection) -> dict[uuid.UUID, str]:
    """Returns the names of all collections by their ids."""
    return {row.id: row.name for row in await connection.execute(select(collection.c.id, collection.c.name))}


async def change(connection: AsyncConnection, collection_id: uuid.UUID, **settings: Any) -> Collection:
    """Sets columns of a collection whose rows the transaction may see. Raises CollectionNotFound."""
    if not settings:
        return await get_by_id(connection, collection_id)
    statement = update(collection).where(collection.c.id == collection_id).values(**settings).returning(*_COLUMNS)
    row = (await connection.execute(statement)).one_or_none()
    if row is None:
        raise _not_found(str(collection_id), None)
    return Collection(**row._mapping)


async def any_stores_crops(connection: AsyncConnection) -> bool:
    """Returns True if a collection is configured to store crops."""
    return (await connection.execute(select(exists().where(collection.c.store_crops)))).scalar_one()


async def lock_enrolment(connection: AsyncConnection, collection_id: uuid.UUID) -> None:
    """Waits until no other transaction holds this lock of the collection, and holds it until the transaction ends."""
    key = int.from_bytes(collection_id.bytes[:8], "big", signed=True)
    await connection.execute(select(func.pg_advisory_xact_lock(key)))


async def page(
    connection: AsyncConnection,
    limit: int,
    after: str | None = None,
    only: str | None = None,
    prefix: str | None = None,
) -> Sequence[tuple[Collection, int]]:
    """Returns up to `limit` collections in the order of their names, each with its number of identities.

    The transaction must be allowed to see all collections.

    Args:
        after: the page begins after this name.
        only: the page contains this collection only.
        prefix: the page contains only names with this prefix.
    """
    statement = select(*_COLUMNS).where(collection.c.deleted_at.is_(None)).order_by(collection.c.name).limit(limit)
    if after is not None:
        statement = statement.where(collection.c.name > after)
    if only is not None:
        statement = statement.where(collection.c.name == only)
    if prefix is not None:
        statement = statement.where(collection.c.name.startswith(prefix, autoescape=True))
    found = [Collection(**row._mapping) for row in await connection.execute(statement)]
    ids = [item.id for item in found]
    counted = select(identity.c.collection_id, func.count()).where(identity.c.collection_id.in_(ids))
    counts = {row[0]: row[1] for row in await connection.execute(counted.group_by(identity.c.collection_id))}
    return [(item, counts.get(item.id, 0)) for item in found]


_COLUMNS = [collection.c[field.name].label(field.name) for field in fields(Collection)]


def _with_locks(statement: Select[Any]) -> dict[Lock | None, Select[Any]]:
    """Returns the statement without and with each kind of lock."""
    return {
        None: statement,
        "share": statement.with_for_update(read=True),
        "update": statement.with_for_update(),
    }


# Built once: building a statement and computing its cache key take longer than executing it.
_LOCAL = local_collection.c
_SELECTION = select(
    *(_LOCAL[field.name].label(field.name) for field in fields(Collection)), row_security.allowing(_LOCAL.id)
)
_BY_NAME = _with_locks(_SELECTION.where(_LOCAL.name == bindparam("key")))
_BY_ID = _with_locks(_SELECTION.where(_LOCAL.id == bindparam("key"), _LOCAL.deleted_at.is_(None)))


async def _read(
    connection: AsyncConnection,
    statements: Mapping[Lock | None, Select[Any]],
    lock: Lock | None,
    key: str | uuid.UUID,
    pointer: str | None,
) -> Collection:
    row = (await connection.execute(statements[lock], {"key": key})).one_or_none()
    if row is None:
        raise _not_found(str(key), pointer)
    return Collection(*row[: len(_COLUMNS)])


def _not_found(name: str, pointer: str | None) -> CollectionNotFound:
    return CollectionNotFound(
        f"the collection {name!r} does not exist; POST /collections creates one", pointer=pointer, collection=name
    )


async def _allowed(connection: AsyncConnection, row: Row[Any]) -> Collection:
    await row_security.allow_collection(connection, row.id)
    return Collection(**row._mapping)
