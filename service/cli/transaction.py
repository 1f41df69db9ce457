"""Runs an administrative action on the configured database."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from psycopg.errors import InsufficientPrivilege
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import RegistryError, StartupError
from service.gallery.storage import row_security, schema
from service.gallery.storage.database import BACKGROUND_S, Database
from service.gallery.storage.server import database_url
from service.runtime.settings import load_settings

Result = TypeVar("Result")


def in_transaction(act: Callable[[AsyncConnection], Awaitable[Result]], snapshot: bool = False) -> Result:
    """Runs `act` in one transaction that may see all collections, commits it and returns the result.

    It first migrates the schema if the service would do so at its start.

    Args:
        snapshot: all reads see the database at the same moment (REPEATABLE READ).

    Raises:
        StartupError: the settings are invalid, the role lacks rights, or `act` raised a RegistryError.
    """

    async def run(database: Database) -> Result:
        async with database.transaction(timeout_s=BACKGROUND_S) as connection:
            if snapshot:
                await connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
            await row_security.allow_all_collections(connection)
            return await act(connection)

    return with_database(run)


def with_database(act: Callable[[Database], Awaitable[Result]]) -> Result:
    """Runs `act` on the configured database and returns the result, for actions with several transactions.

    It first migrates the schema if the service would do so at its start.

    Raises:
        StartupError: the settings are invalid, the role lacks rights, or `act` raised a RegistryError.
    """
    settings = load_settings()

    async def run(url: str) -> Result:
        database = Database(url)
        try:
            return await act(database)
        except RegistryError as error:
            raise StartupError(error.detail) from error
        except ProgrammingError as error:
            if not isinstance(error.orig, InsufficientPrivilege):
                raise
            raise StartupError(
                "the database role lacks the rights for this command; set database.owner_url to the tables' owner"
            ) from error
        finally:
            await database.close()

    with database_url(settings.owner_url, settings.postgres_folder) as url:
        if settings.migrates_on_start:
            schema.upgrade(url, app_password=settings.app_password)
        return asyncio.run(run(url))
