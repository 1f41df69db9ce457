"""API keys. The database stores the SHA-256 hash of each key and not the key itself."""

import hashlib
import secrets
import uuid
from collections.abc import Collection as Items
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, and_, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.gallery.access.scopes import Scope
from service.gallery.storage.tables import api_key, collection

PREFIX = "ir_"
SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class ApiKey:
    """The stored attributes of an API key.

    Attributes:
        collection: name of the only collection that the key may access; None: every collection.
        expires_at: None: the key does not expire.
        revoked_at: None: the key is not revoked.
        requests_per_minute: rate limit of the key; None: the setting `server.rate_limit` applies.
    """

    id: uuid.UUID
    name: str
    scopes: frozenset[Scope]
    collection: str | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    requests_per_minute: int | None = None

    @property
    def has_expired(self) -> bool:
        return self.expires_at is not None and self.expires_at <= datetime.now(self.expires_at.tzinfo)


def digest(secret: str) -> bytes:
    """Returns the SHA-256 hash of a secret (32 bytes).

    A hash without salt and stretching is sufficient, because a secret has 256 random bits and cannot be guessed.
    """
    return hashlib.sha256(secret.encode()).digest()


async def create(
    connection: AsyncConnection,
    name: str,
    scopes: Items[Scope],
    collection_id: uuid.UUID | None = None,
    expires_at: datetime | None = None,
    requests_per_minute: int | None = None,
) -> str:
    """Inserts a key and returns its secret (`ir_` and 43 characters). The database stores only the secret's hash.

    Args:
        name: purpose of the key, for lists, refusals and the audit trail.
        collection_id: the only collection that the key may access; None: every collection.
        expires_at: time from which the key is refused; None: never.
        requests_per_minute: rate limit of the key; None: the setting `server.rate_limit` applies.
    """
    secret = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
    values = {
        "id": uuid.uuid4(),
        "name": name,
        "digest": digest(secret),
        "scopes": sorted(scope.value for scope in scopes),
        "collection_id": collection_id,
        "expires_at": expires_at,
        "requests_per_minute": requests_per_minute,
    }
    await connection.execute(insert(api_key).values(values))
    return secret


async def find(connection: AsyncConnection, secret: str) -> ApiKey | None:
    """Returns the key with this secret; None if it is unknown, has expired or is revoked."""
    statement = _query().where(api_key.c.digest == digest(secret), _is_valid())
    row = (await connection.execute(statement)).one_or_none()
    return None if row is None else _key(row)


async def list_all(connection: AsyncConnection) -> Sequence[ApiKey]:
    """Returns every key, including expired and revoked ones, oldest first."""
    return [_key(row) for row in await connection.execute(_query().order_by(api_key.c.created_at, api_key.c.id))]


async def any_valid(connection: AsyncConnection) -> bool:
    """Returns True if at least one key is neither expired nor revoked."""
    statement = select(select(api_key.c.id).where(_is_valid()).exists())
    return bool((await connection.execute(statement)).scalar())


async def revoke(connection: AsyncConnection, key_id: uuid.UUID) -> bool:
    """Revokes a key. Returns False if no key has this id or it is already revoked."""
    statement = (
        update(api_key)
        .where(api_key.c.id == key_id, api_key.c.revoked_at.is_(None))
        .values(revoked_at=func.now())
        .returning(api_key.c.id)
    )
    return (await connection.execute(statement)).one_or_none() is not None


def _is_valid() -> ColumnElement[bool]:
    return and_(api_key.c.revoked_at.is_(None), or_(api_key.c.expires_at.is_(None), api_key.c.expires_at > func.now()))


def _query() -> Select[Any]:
    return select(api_key, collection.c.name.label("collection")).outerjoin(
        collection, collection.c.id == api_key.c.collection_id
    )


def _key(row: Row[Any]) -> ApiKey:
    return ApiKey(
        row.id,
        row.name,
        # A later release may have stored scopes that this release does not define.
        frozenset(Scope(scope) for scope in row.scopes if scope in set(Scope)),
        row.collection,
        row.created_at,
        row.expires_at,
        row.revoked_at,
        row.requests_per_minute,
    )
