"""Encrypts stored crops again under the current key, beside running services.

Each batch is one short transaction. It locks only rows that no other transaction has locked, so that it neither waits
for requests nor takes part in a deadlock, and it repeats the table until no crop of a known former key remains: crops
that were skipped, or that services with the former configuration stored meanwhile, are done in a later pass. An
interruption loses at most one batch.
"""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import LargeBinary, bindparam, func, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import CropUnreadable
from service.gallery.people.crop_cipher import KEY_ID_BYTES, CropCipher
from service.gallery.storage.database import Database
from service.gallery.storage.tables import collection, crop

BATCH = 100
"""Crops of some 20 KB."""
MAX_PASSES = 10
_KEY_ID = func.substr(crop.c.encrypted, 1, KEY_ID_BYTES, type_=LargeBinary)
_KEY = crop.c.collection_id, crop.c.identity_id, crop.c.source_sha256
Position = tuple[uuid.UUID, uuid.UUID, bytes]


@dataclass(frozen=True, slots=True)
class Reencryption:
    """The result.

    Attributes:
        undecryptable: crops whose key is unknown, or that were altered.
        remaining: crops that are not encrypted under the current key, by the id of their key: the undecryptable ones,
            and those that other transactions had locked or stored meanwhile.
    """

    reencrypted: int
    undecryptable: int
    remaining: dict[bytes, int]


async def reencrypt(database: Database, cipher: CropCipher, report: Callable[[int], None]) -> Reencryption:
    """Encrypts all crops of former keys again under the cipher's current key.

    Args:
        report: is called with the number of processed crops after each batch.
    """
    total = failed = 0
    for _ in range(MAX_PASSES):
        changed, failed = await _pass(database, cipher, report)
        total += changed
        if not changed:
            break
    async with database.transaction(all_collections=True) as connection:
        return Reencryption(total, failed, await remaining(connection, cipher))


async def remaining(connection: AsyncConnection, cipher: CropCipher) -> dict[bytes, int]:
    """Returns the number of crops that are not encrypted under the current key, by the id of their key."""
    statement = select(_KEY_ID, func.count()).where(_KEY_ID.is_distinct_from(cipher.current_key_id)).group_by(_KEY_ID)
    await connection.execute(func.set_config("statement_timeout", "0", True).select())
    return {bytes(row[0]): row[1] for row in await connection.execute(statement)}


async def _pass(database: Database, cipher: CropCipher, report: Callable[[int], None]) -> tuple[int, int]:
    """Processes the table once, by its primary key; returns the numbers of changed and undecryptable crops."""
    async with database.transaction(all_collections=True) as connection:
        ids = (await connection.execute(select(collection.c.id))).scalars().all()
    results = [await _pass_of_collection(database, cipher, report, collection_id) for collection_id in ids]
    return sum(changed for changed, _ in results), sum(failed for _, failed in results)


async def _pass_of_collection(
    database: Database, cipher: CropCipher, report: Callable[[int], None], collection_id: uuid.UUID
) -> tuple[int, int]:
    changed, failed, position = 0, 0, None
    while True:
        async with database.transaction(collection_id) as connection:
            rows = await _locked_batch(connection, cipher, collection_id, position)
            encrypted = _reencrypted(cipher, rows)
            if encrypted:
                await connection.execute(_UPDATE, encrypted)
        changed, failed = changed + len(encrypted), failed + len(rows) - len(encrypted)
        if not rows:
            return changed, failed
        report(len(rows))
        position = rows[-1][0]


async def _locked_batch(
    connection: AsyncConnection, cipher: CropCipher, collection_id: uuid.UUID, position: Position | None
) -> list[tuple[Position, bytes]]:
    """Returns and locks crops after a position that are not encrypted under the current key, with their positions."""
    statement = select(*_KEY, crop.c.encrypted.label("encrypted")).where(
        crop.c.collection_id == collection_id, _KEY_ID.is_distinct_from(cipher.current_key_id)
    )
    if position is not None:
        statement = statement.where(tuple_(*_KEY) > position)
    locked = statement.order_by(*_KEY).limit(BATCH).with_for_update(skip_locked=True)
    # The crops of the current key between two batches can be many.
    await connection.execute(func.set_config("statement_timeout", "0", True).select())
    rows = await connection.execute(locked)
    return [((row.collection_id, row.identity_id, row.source_sha256), row.encrypted) for row in rows]


_UPDATE = (
    update(crop)
    .where(*(column == bindparam(f"old_{column.key}") for column in _KEY))
    .values({crop.c.encrypted: bindparam("new_encrypted")})
)


def _reencrypted(cipher: CropCipher, rows: Sequence[tuple[Position, bytes]]) -> list[dict[str, object]]:
    """Returns the parameters of `_UPDATE` for the crops that can be decrypted."""
    parameters = []
    for (collection_id, identity_id, source), encrypted in rows:
        try:
            file = cipher.decrypt(encrypted, source)
        except CropUnreadable:
            continue  # stays in `remaining`
        values = {"old_collection_id": collection_id, "old_identity_id": identity_id, "old_source_sha256": source}
        parameters.append({**values, "new_encrypted": cipher.encrypt(file, source)})
    return parameters
