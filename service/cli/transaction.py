"""What the commands of operators share: the configured database, for one thing."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from psycopg.errors import InsufficientPrivilege
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import RegistryError, StartupError
from service.gallery.storage import row_security, schema
from service.gallery.storage.database import Database
from service.gallery.storage.server import database_url
from service.runtime.settings import load_settings

Result = TypeVar("Result")


def in_transaction(act: Callable[[AsyncConnection], Awaitable[Result]], snapshot: bool = False) -> Result:
    """Do one thing in one transaction on the configured database, which is migrated where it would be at a start.

    `snapshot`: everything that is read is of one moment.

    Raises:
        StartupError
    """
    settings = load_settings()

    async def run(url: str) -> Result:
        database = Database(url)
        try:
            async with database.transaction() as connection:
                if snapshot:
                    await connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
                await row_security.allow_all_collections(connection)
                return await act(connection)
        except RegistryError as error:
            raise StartupError(error.detail) from error
        except ProgrammingError as error:
            if not isinstance(error.orig, InsufficientPrivilege):
                raise
            raise StartupError("this account of the database may not: name its owner in database.owner_url") from error
        finally:
            await database.close()

    with database_url(settings.owner_url, settings.postgres_folder) as url:
        if settings.migrates_on_start:
            schema.upgrade(url, app_password=settings.app_password)
        return asyncio.run(run(url))
