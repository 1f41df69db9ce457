"""Answers that are kept under the caller's key, so that a repeated request gets its answer and does nothing."""

import uuid
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from service.gallery.tables import idempotency

KEPT_HOURS = 24


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """The answer to a request, and the digest by which the same request is known again."""

    request_sha256: bytes
    answer: dict[str, Any]


async def find(connection: AsyncConnection, collection_id: uuid.UUID, key: str) -> KeptAnswer | None:
    """What was answered under this key and has not expired."""
    statement = select(idempotency.c.request_sha256, idempotency.c.answer).where(
        idempotency.c.collection_id == collection_id,
        idempotency.c.key == key,
        idempotency.c.answer.is_not(None),
        idempotency.c.created_at > _oldest(),
    )
    row = (await connection.execute(statement)).one_or_none()
    return None if row is None else KeptAnswer(row.request_sha256, row.answer)


async def claim(
    connection: AsyncConnection, collection_id: uuid.UUID, key: str, request_sha256: bytes
) -> KeptAnswer | None:
    """Take a key for this transaction, or say what was answered under it.

    Whoever comes with a key that another transaction has taken waits until that one ends: then its answer is there, or,
    where it failed, the key is free.
    """
    expired = (idempotency.c.collection_id == collection_id) & (idempotency.c.created_at <= _oldest())
    await connection.execute(delete(idempotency).where(expired))
    values = {"collection_id": collection_id, "key": key, "request_sha256": request_sha256}
    statement = insert(idempotency).values(values).on_conflict_do_nothing().returning(idempotency.c.key)
    if (await connection.execute(statement)).one_or_none() is not None:
        return None
    return await find(connection, collection_id, key)


async def keep(
    connection: AsyncConnection, collection_id: uuid.UUID, key: str, identity_id: uuid.UUID, answer: dict[str, Any]
) -> None:
    """Store the answer under a claimed key. It goes with the person whom it is about."""
    statement = update(idempotency).where(idempotency.c.collection_id == collection_id, idempotency.c.key == key)
    await connection.execute(statement.values(identity_id=identity_id, answer=answer))


def _oldest() -> Any:
    return func.now() - text(f"interval '{KEPT_HOURS} hours'")
