"""Collections and the models that they are bound to."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, exists, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import CollectionExists, CollectionNotFound, Conflict, StartupError
from service.gallery.storage import row_security
from service.gallery.storage.tables import collection, identity, model

DEFAULT = "default"
"""The collection that there always is."""


@dataclass(frozen=True, slots=True)
class Collection:
    id: uuid.UUID
    name: str
    model_id: str
    fmr: float | None
    fpir: float | None
    quality: str
    duplicates: str
    created_at: datetime
    secondary_model_id: str | None = None
    """Embeds every new face as well, so that it can take the other one's place."""
    auto_activate: bool = False
    """It does so by itself as soon as it knows everybody."""
    store_crops: bool = False

    @property
    def models(self) -> tuple[str, str | None, bool]:
        """What a new face is stored as: under which models, and whether as a crop."""
        return self.model_id, self.secondary_model_id, self.store_crops


async def add_model(connection: AsyncConnection, model_id: str, dim: int, fingerprint: str) -> None:
    """Make a model known, once.

    Raises:
        StartupError: another bundle goes by the same id already; its embeddings must not be compared with ours.
    """
    values = {"id": model_id, "dim": dim, "fingerprint": fingerprint}
    await connection.execute(insert(model).values(values).on_conflict_do_nothing())
    known = (await connection.execute(select(model).where(model.c.id == model_id))).one()
    if (known.dim, known.fingerprint) != (dim, fingerprint):
        raise StartupError(
            f"The database knows another model by the id {model_id!r}; its embeddings can't be compared with this "
            "one's. Export the bundle again under an id of its own."
        )


async def create(connection: AsyncConnection, name: str, model_id: str, **choices: Any) -> Collection:
    """Make a collection; `choices` are columns that differ from their defaults. Raises CollectionExists."""
    statement = (
        insert(collection)
        .values(id=uuid.uuid4(), name=name, model_id=model_id, **choices)
        .on_conflict_do_nothing()
        .returning(collection)
    )
    row = (await connection.execute(statement)).one_or_none()
    if row is None:
        raise CollectionExists(f"a collection {name!r} exists already", pointer="/name")
    return await _entered(connection, row)


async def get(connection: AsyncConnection, name: str, pointer: str = "/collection") -> Collection:
    """The collection, whose rows can be seen from now on. `pointer`: where it is named. Raises CollectionNotFound."""
    row = (await connection.execute(select(collection).where(collection.c.name == name))).one_or_none()
    if row is None:
        raise CollectionNotFound(f"there is no collection {name!r}; POST /collections makes one", pointer=pointer)
    return await _entered(connection, row)


async def get_held(connection: AsyncConnection, name: str, pointer: str = "/collection") -> Collection:
    """As `get`, and its models stay what they are until the transaction ends. Raises CollectionNotFound."""
    await share_model_lock(connection, (await get(connection, name, pointer)).id)
    return await get(connection, name, pointer)


async def names(connection: AsyncConnection) -> dict[uuid.UUID, str]:
    """Of all collections, by their ids."""
    return {row.id: row.name for row in await connection.execute(select(collection.c.id, collection.c.name))}


async def change(connection: AsyncConnection, name: str, **choices: Any) -> Collection:
    """Set columns of a collection. Raises CollectionNotFound."""
    if not choices:
        return await get(connection, name)
    statement = update(collection).where(collection.c.name == name).values(**choices).returning(collection)
    row = (await connection.execute(statement)).one_or_none()
    if row is None:
        raise CollectionNotFound(f"there is no collection {name!r}; POST /collections makes one", pointer="/name")
    return await _entered(connection, row)


async def keeps_crops(connection: AsyncConnection) -> bool:
    """Whether some collection asks for it."""
    return (await connection.execute(select(exists().where(collection.c.store_crops)))).scalar_one()


async def lock_enrolment(connection: AsyncConnection, collection_id: uuid.UUID) -> None:
    """Whoever else calls this for the collection waits until the transaction ends, and then sees what it wrote."""
    await connection.execute(select(func.pg_advisory_xact_lock(_key(collection_id.bytes[:8]))))


async def share_model_lock(connection: AsyncConnection, collection_id: uuid.UUID) -> None:
    """Nobody changes which models the collection has until the transaction ends, which is to write under them."""
    await connection.execute(select(func.pg_advisory_xact_lock_shared(_key(collection_id.bytes[8:]))))


async def take_model_lock(connection: AsyncConnection, collection_id: uuid.UUID) -> None:
    """Waits for those who hold the models; whoever comes later sees the change."""
    await connection.execute(select(func.pg_advisory_xact_lock(_key(collection_id.bytes[8:]))))


def _key(data: bytes) -> int:
    return int.from_bytes(data, "big", signed=True)


async def remove(connection: AsyncConnection, name: str) -> tuple[uuid.UUID, int]:
    """Delete a collection with everybody in it; its id, and how many people that were.

    Raises:
        CollectionNotFound, Conflict: it is the default one, which there always is.
    """
    if name == DEFAULT:
        raise Conflict(f"the collection {DEFAULT!r} always exists; delete the identities in it", pointer="/name")
    found = await get(connection, name)
    # Whoever enrols into it at this moment waits here, and then finds it gone.
    await connection.execute(select(collection.c.id).where(collection.c.id == found.id).with_for_update())
    people = (await connection.execute(delete(identity).where(identity.c.collection_id == found.id))).rowcount
    await connection.execute(delete(collection).where(collection.c.id == found.id))
    return found.id, people


async def page(
    connection: AsyncConnection,
    limit: int,
    after: str | None = None,
    only: str | None = None,
    prefix: str | None = None,
) -> Sequence[tuple[Collection, int]]:
    """Up to `limit` collections by name, each with its number of identities, beginning after a name.

    Only that one, or those whose names begin so. The transaction must be for everything.
    """
    chosen = select(collection).order_by(collection.c.name).limit(limit)
    if after is not None:
        chosen = chosen.where(collection.c.name > after)
    if only is not None:
        chosen = chosen.where(collection.c.name == only)
    if prefix is not None:
        chosen = chosen.where(collection.c.name.startswith(prefix, autoescape=True))
    rows = chosen.subquery()
    count = select(func.count()).where(identity.c.collection_id == rows.c.id).scalar_subquery()
    statement = select(rows, count.label("people")).order_by(rows.c.name)
    names = [field.name for field in fields(Collection)]
    return [
        (Collection(**{name: getattr(row, name) for name in names}), row.people)
        for row in await connection.execute(statement)
    ]


async def _entered(connection: AsyncConnection, row: Row[Any]) -> Collection:
    await row_security.allow_collection(connection, row.id)
    return Collection(**row._mapping)
