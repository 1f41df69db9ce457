"""Responses that are stored under the client's Idempotency-Key, so that a repeated request has no further effect."""

import uuid
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from service.gallery.storage.tables import idempotency

RETENTION_HOURS = 24
_RETENTION = text(f"interval '{RETENTION_HOURS} hours'")


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """The response to a request, and the SHA-256 of the request, which identifies it."""

    request_sha256: bytes
    response: dict[str, Any]


async def find(connection: AsyncConnection, collection_id: uuid.UUID, key: str) -> StoredResponse | None:
    """Returns the response that is stored under this key and has not expired."""
    statement = select(idempotency.c.request_sha256, idempotency.c.response.label("response")).where(
        idempotency.c.collection_id == collection_id,
        idempotency.c.key == key,
        idempotency.c.response.is_not(None),
        idempotency.c.created_at > _oldest(),
    )
    row = (await connection.execute(statement)).one_or_none()
    return None if row is None else StoredResponse(row.request_sha256, row.response)


async def store(
    connection: AsyncConnection, collection_id: uuid.UUID, key: str, identity_id: uuid.UUID, stored: StoredResponse
) -> bool:
    """Stores a response; erasing the identity deletes it.

    If another transaction has inserted the same key, this waits until that transaction ends.

    Returns:
        False if another request has stored a response under this key; the caller must roll back.
    """
    values = {
        "collection_id": collection_id,
        "key": key,
        "request_sha256": stored.request_sha256,
        "identity_id": identity_id,
        "response": stored.response,
        "created_at": func.now(),
    }
    statement = insert(idempotency).values(values)
    changes = {
        idempotency.c[name]: statement.excluded[name]
        for name in ("request_sha256", "identity_id", "response", "created_at")
    }
    age = statement.excluded.created_at - idempotency.c.created_at  # Citus permits only immutable functions here
    replacing_expired = statement.on_conflict_do_update(
        index_elements=["collection_id", "key"], set_=changes, where=age >= _RETENTION
    ).returning(idempotency.c.key)
    return (await connection.execute(replacing_expired)).one_or_none() is not None


async def purge(connection: AsyncConnection) -> int:
    """Deletes all expired responses and returns their number."""
    return (await connection.execute(delete(idempotency).where(idempotency.c.created_at <= _oldest()))).rowcount


def _oldest() -> Any:
    return func.now() - _RETENTION
