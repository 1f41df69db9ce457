"""API keys: made once, shown once, kept as a hash."""

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
    """What is known of a key. `collection` None: it is good for every collection.

    `requests_per_minute` None: what the settings say.
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
    """A plain hash is enough: a key is 256 random bits, which nobody can guess their way to."""
    return hashlib.sha256(secret.encode()).digest()


async def create(
    connection: AsyncConnection,
    name: str,
    scopes: Items[Scope],
    collection_id: uuid.UUID | None = None,
    expires_at: datetime | None = None,
    requests_per_minute: int | None = None,
) -> str:
    """Make a key and return its secret, which is stored nowhere."""
    secret = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
    row = {
        "id": uuid.uuid4(),
        "name": name,
        "digest": digest(secret),
        "scopes": sorted(scope.value for scope in scopes),
        "collection_id": collection_id,
        "expires_at": expires_at,
        "requests_per_minute": requests_per_minute,
    }
    await connection.execute(insert(api_key).values(row))
    return secret


async def find(connection: AsyncConnection, secret: str) -> ApiKey | None:
    """The key that is valid now, if this is one."""
    statement = _query().where(api_key.c.digest == digest(secret), _is_valid())
    row = (await connection.execute(statement)).one_or_none()
    return None if row is None else _key(row)


async def list_all(connection: AsyncConnection) -> Sequence[ApiKey]:
    """Every key that was ever made, oldest first."""
    return [_key(row) for row in await connection.execute(_query().order_by(api_key.c.created_at, api_key.c.id))]


async def any_valid(connection: AsyncConnection) -> bool:
    """Whether anybody could use the service."""
    statement = select(select(api_key.c.id).where(_is_valid()).exists())
    return bool((await connection.execute(statement)).scalar())


async def revoke(connection: AsyncConnection, key_id: uuid.UUID) -> bool:
    """Make a key worthless; whether there was such a key that had worth."""
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
        frozenset(Scope(scope) for scope in row.scopes if scope in set(Scope)),  # a later release may know more
        row.collection,
        row.created_at,
        row.expires_at,
        row.revoked_at,
        row.requests_per_minute,
    )
