"""Builds the HNSW indexes of large collections in a process of its own, which alone has the account of the owner.

PostgreSQL lets only the owner of a table create its indexes. This process receives no input of clients, so that the
processes that do (API, jobs) need no account that may change the schema, the audit trail or the API keys.
"""

import asyncio
import logging
import signal
from pathlib import Path

from service.background_tasks import cancel
from service.errors import RegistryError, StartupError
from service.gallery.index import hnsw
from service.gallery.storage.database import Database
from service.gallery.storage.server import database_url
from service.runtime.alive import touch
from service.runtime.settings import Settings

log = logging.getLogger(__name__)


def build_indexes(settings: Settings, keep_running: bool, alive: Path | None) -> list[str]:
    """Builds missing indexes and drops unneeded ones; returns the names of those.

    Args:
        keep_running: repeats it every `database.maintenance_interval_s` seconds until SIGINT or SIGTERM.
        alive: file that is touched every five seconds while the database responds, for health checks.

    Raises:
        StartupError: the account does not own the tables, or the database is unreachable.
    """
    with database_url(settings.owner_url, settings.postgres_folder) as url:
        return asyncio.run(_build(settings, url, keep_running, alive))


async def _build(settings: Settings, url: str, keep_running: bool, alive: Path | None) -> list[str]:
    database = Database(url, pool_size=2)
    try:
        if not await hnsw.may_build(database):
            raise StartupError("Only the owner of the tables can build indexes; set database.owner_url.")
        if not keep_running:
            return await _maintain(settings, database)
        await _repeat(settings, database, alive)
        return []
    except RegistryError as error:
        raise StartupError(error.detail) from error
    finally:
        await database.close()


async def _maintain(settings: Settings, database: Database) -> list[str]:
    minimum = settings.database.hnsw_min_identities
    return await hnsw.maintain(database, minimum, minimum // 2, settings.database.hnsw_memory_mb)


async def _repeat(settings: Settings, database: Database, alive: Path | None) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    building = asyncio.create_task(_maintain_repeatedly(settings, database))
    touching = asyncio.create_task(touch(database, alive))
    stopping = asyncio.create_task(stopped.wait())
    watched = {building, stopping} if alive is None else {building, stopping, touching}
    await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
    for task in (touching, stopping, building):
        await cancel(task)


async def _maintain_repeatedly(settings: Settings, database: Database) -> None:
    while True:
        try:
            await _maintain(settings, database)
        except Exception as error:  # for example a restart of the server: the next run repeats the build
            log.warning("the indexes could not be maintained: %s", str(error).partition("\n")[0])
        await asyncio.sleep(settings.database.maintenance_interval_s)
