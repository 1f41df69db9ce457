"""Answers that are kept under the caller's key, so that a repeated request gets its answer and does nothing."""

import uuid
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import Conflict
from service.gallery.storage.tables import idempotency

KEPT_HOURS = 24
ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """The answer to a request, and the digest by which the same request is known again."""

    request_sha256: bytes
    answer: dict[str, Any]


async def find(connection: AsyncConnection, collection_id: uuid.UUID, key: str) -> StoredResponse | None:
    """What was answered under this key and has not expired."""
    statement = select(idempotency.c.request_sha256, idempotency.c.answer).where(
        idempotency.c.collection_id == collection_id,
        idempotency.c.key == key,
        idempotency.c.answer.is_not(None),
        idempotency.c.created_at > _oldest(),
    )
    row = (await connection.execute(statement)).one_or_none()
    return None if row is None else StoredResponse(row.request_sha256, row.answer)


async def claim(
    connection: AsyncConnection, collection_id: uuid.UUID, key: str, request_sha256: bytes
) -> StoredResponse | None:
    """Take a key for this transaction, or say what was answered under it.

    Whoever comes with a key that another transaction has taken waits until that one ends: then its answer is there, or,
    where it failed, the key is free.

    Raises:
        Conflict: the key came and went all the time.
    """
    mine = (idempotency.c.collection_id == collection_id) & (idempotency.c.key == key)
    values = {"collection_id": collection_id, "key": key, "request_sha256": request_sha256}
    statement = insert(idempotency).values(values).on_conflict_do_nothing().returning(idempotency.c.key)
    for _ in range(ATTEMPTS):
        await connection.execute(delete(idempotency).where(mine, idempotency.c.created_at <= _oldest()))
        if (await connection.execute(statement)).one_or_none() is not None:
            return None
        if (kept := await find(connection, collection_id, key)) is not None:
            return kept
        # The row that was in the way went with its person before it was read.
    raise Conflict("the person of this Idempotency-Key is being changed; send the request again")


async def keep(
    connection: AsyncConnection, collection_id: uuid.UUID, key: str, identity_id: uuid.UUID, answer: dict[str, Any]
) -> None:
    """Store the answer under a claimed key. It goes with the person whom it is about."""
    statement = update(idempotency).where(idempotency.c.collection_id == collection_id, idempotency.c.key == key)
    done = await connection.execute(statement.values(identity_id=identity_id, answer=answer))
    if done.rowcount != 1:
        raise Conflict("the Idempotency-Key was lost meanwhile; send the request again")


async def purge(connection: AsyncConnection) -> int:
    """Forget all answers that have expired; how many there were."""
    return (await connection.execute(delete(idempotency).where(idempotency.c.created_at <= _oldest()))).rowcount


def _oldest() -> Any:
    return func.now() - text(f"interval '{KEPT_HOURS} hours'")
