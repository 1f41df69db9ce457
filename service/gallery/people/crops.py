"""Encrypted, aligned crops of enrolled faces. A model migration embeds them, so that no new photos are needed."""

import uuid
from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import Select, exists, select, tuple_, update
from sqlalchemy import delete as sql_delete
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from service.gallery.storage.tables import crop


async def store(
    connection: AsyncConnection, collection_id: uuid.UUID, identity_id: uuid.UUID, encrypted: Mapping[bytes, bytes]
) -> None:
    """Stores encrypted crops by their `source_sha256`. A crop replaces an older one, whose key may be lost."""
    if not encrypted:
        return
    key = {"collection_id": collection_id, "identity_id": identity_id}
    rows = [key | {"source_sha256": source, "encrypted": file} for source, file in encrypted.items()]
    statement = insert(crop).values(rows)
    columns = ["collection_id", "identity_id", "source_sha256"]
    replacing = statement.on_conflict_do_update(
        index_elements=columns, set_={crop.c.encrypted: statement.excluded.encrypted}
    )
    await connection.execute(replacing)


async def read(
    connection: AsyncConnection, collection_id: uuid.UUID, faces: Mapping[uuid.UUID, Collection[bytes]]
) -> dict[tuple[uuid.UUID, bytes], bytes]:
    """Returns the stored crops, encrypted, by identity and `source_sha256`.

    Args:
        faces: the `source_sha256` of the crops to read, by identity.
    """
    keys = [(identity_id, source) for identity_id, sources in faces.items() for source in sources]
    statement = select(crop.c.identity_id, crop.c.source_sha256, crop.c.encrypted.label("encrypted")).where(
        crop.c.collection_id == collection_id, tuple_(crop.c.identity_id, crop.c.source_sha256).in_(keys)
    )
    return {(row.identity_id, row.source_sha256): row.encrypted for row in await connection.execute(statement)}


async def delete(
    connection: AsyncConnection,
    collection_id: uuid.UUID,
    identity_id: uuid.UUID,
    sources: Sequence[bytes] | Select[tuple[bytes]],
) -> None:
    """Deletes an identity's crops with these `source_sha256`, or with those that a query returns."""
    statement = sql_delete(crop).where(crop.c.collection_id == collection_id, crop.c.identity_id == identity_id)
    await connection.execute(statement.where(crop.c.source_sha256.in_(sources)))


async def delete_all(connection: AsyncConnection, collection_id: uuid.UUID) -> int:
    """Deletes all crops of a collection and returns their number."""
    return (await connection.execute(sql_delete(crop).where(crop.c.collection_id == collection_id))).rowcount


async def reassign(
    connection: AsyncConnection,
    collection_id: uuid.UUID,
    source: uuid.UUID,
    target: uuid.UUID,
    only: Sequence[bytes] | None = None,
) -> None:
    """Moves crops from one identity to another, except those that the target already has.

    Args:
        only: the `source_sha256` of the crops to move; None: all.
    """
    existing = crop.alias("existing")
    is_stored = exists().where(
        existing.c.collection_id == collection_id,
        existing.c.identity_id == target,
        existing.c.source_sha256 == crop.c.source_sha256,
    )
    statement = update(crop).where(crop.c.collection_id == collection_id, crop.c.identity_id == source, ~is_stored)
    if only is not None:
        statement = statement.where(crop.c.source_sha256.in_(only))
    await connection.execute(statement.values(identity_id=target))
