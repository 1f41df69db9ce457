"""Opens the database, migrates it, and checks it once before the first request."""

import asyncio
import contextlib
import logging
from collections.abc import Sequence

from sqlalchemy.exc import OperationalError

from service.errors import CollectionNotFound, DatabaseUnavailable, StartupError
from service.gallery.access import api_keys
from service.gallery.people import collections
from service.gallery.storage import row_security, schema
from service.gallery.storage.app_role import APP_ROLE
from service.gallery.storage.database import Database
from service.gallery.storage.server import database_url
from service.inference.bundle import embedding_fingerprint
from service.inference.manifest import EmbedderManifest
from service.runtime.settings import Settings

RESERVED_CONNECTIONS, RESERVED_TIMEOUT_S = 2, 2.0
log = logging.getLogger(__name__)


async def open_databases(settings: Settings, stack: contextlib.AsyncExitStack) -> tuple[Database, Database, Database]:
    """Opens the database and migrates the schema if the settings require it.

    Returns:
        Connections of the tables' owner, for building indexes; connections with the rights of the service's role; and
        two more of these, which are reserved for API keys and readiness.

    Raises:
        StartupError: the database is unreachable, or the schema cannot be migrated.
    """
    server = database_url(settings.owner_url, settings.postgres_folder)
    owner_url = await asyncio.to_thread(server.__enter__)
    stack.push_async_callback(asyncio.to_thread, server.__exit__, None, None, None)
    owner = Database(owner_url, pool_size=2)
    stack.push_async_callback(owner.close)
    try:
        if settings.migrates_on_start:
            await asyncio.to_thread(schema.upgrade, owner_url, "head", settings.app_password)
        database, reserved = await _restricted(settings, owner)
    except (DatabaseUnavailable, OperationalError) as error:
        raise StartupError(f"The database is unreachable: {error.__cause__ or error}") from error
    for pool in (database, reserved):
        stack.push_async_callback(pool.close)
    return owner, database, reserved


async def _restricted(settings: Settings, owner: Database) -> tuple[Database, Database]:
    """Returns the two pools to which row-level security applies: that of requests, and the reserved one."""
    url, role = await _restricted_login(settings, owner)
    timeout_s = settings.database.pool_timeout_s
    requests = Database(url, settings.database.pool_size, timeout_s, role)
    return requests, Database(url, RESERVED_CONNECTIONS, min(timeout_s, RESERVED_TIMEOUT_S), role)


async def _restricted_login(settings: Settings, owner: Database) -> tuple[str, str | None]:
    """Returns the URL of `database.url` or of the service's role, and the role to assume after the login."""
    if settings.database.owner_url is not None:
        return settings.database_url or owner.url, None
    async with owner.transaction() as connection:
        has_role = await row_security.exists(connection)
    if not has_role:
        return owner.url, None
    if settings.database_url is None:
        return row_security.app_role_url(owner.url), None
    return owner.url, APP_ROLE


async def prepare_gallery(
    settings: Settings, database: Database, manifests: Sequence[EmbedderManifest], can_store_crops: bool
) -> None:
    """Checks the schema and pgvector, registers the models, and creates the default collection. Raises StartupError."""
    try:
        release = schema.this_release()
        async with database.transaction() as connection:
            if problem := await schema.schema_problem(connection, release):
                raise StartupError(f"The database is not ready: {problem}")
            if settings.server.keys_required and not await api_keys.any_valid(connection):
                log.warning("no API key exists, so every request is refused; run `identity-registry keys create`")
            if not can_store_crops and await collections.any_stores_crops(connection):
                log.warning("a collection is configured to store crops, but no key encrypts them; set crops.key")
            if not await row_security.row_security_applies(connection):
                log.warning("row-level security does not apply to the database role; it can read every collection")
            await schema.require_pgvector(connection)
            for manifest in manifests:
                model = manifest.model_id, manifest.embedding_dim, embedding_fingerprint(manifest)
                await collections.add_model(connection, *model, manifest.supersedes)
            try:
                await collections.get(connection, collections.DEFAULT)
            except CollectionNotFound:
                await collections.create(connection, collections.DEFAULT, manifests[0].model_id)
    except (DatabaseUnavailable, OperationalError) as error:
        raise StartupError(f"The database is unreachable: {error.__cause__}") from error
