"""Creates, lists and revokes API keys."""

import os
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.cli.transaction import in_transaction
from service.errors import StartupError
from service.gallery.access import api_keys
from service.gallery.access.api_keys import ApiKey
from service.gallery.access.scopes import Scope
from service.gallery.people import collections

LOCK = 0x6B6579
"""Key of the advisory lock that serialises the creation of the first key."""


def create(
    name: str,
    scopes: Sequence[Scope],
    collection: str | None,
    days: int | None,
    output: Path | None,
    only_first: bool,
    requests_per_minute: int | None = None,
) -> str | None:
    """Creates a key and returns its secret; None if `only_first` and a valid key exists.

    Args:
        output: new file for the secret.

    Raises:
        StartupError: the collection does not exist or the file cannot be written; no key was created.
    """
    expires_at = None if days is None else datetime.now(UTC) + timedelta(days=days)

    async def act(connection: AsyncConnection) -> str | None:
        await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
        if only_first and await api_keys.any_valid(connection):
            return None
        collection_id = None if collection is None else (await collections.get(connection, collection)).id
        secret = await api_keys.create(connection, name, scopes, collection_id, expires_at, requests_per_minute)
        if output is not None:  # before the commit: a key whose secret is lost must not exist
            _write(output, secret)
        return secret

    return in_transaction(act)


def list_all() -> Sequence[ApiKey]:
    """Returns every key, oldest first."""
    return in_transaction(api_keys.list_all)


def revoke(key_id: uuid.UUID) -> bool:
    """Revokes a key; returns False if no valid key has this id."""
    return in_transaction(lambda connection: api_keys.revoke(connection, key_id))


def _write(file: Path, secret: str) -> None:
    try:
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as output:
            output.write(secret + "\n")
    except OSError as error:
        raise StartupError(f"the key cannot be written to {file}: {error.strerror}") from error
