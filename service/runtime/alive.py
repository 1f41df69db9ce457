"""Reports the health of processes without an HTTP port."""

import asyncio
import contextlib
from pathlib import Path

from sqlalchemy import text

from service.errors import DatabaseUnavailable
from service.gallery.storage.database import Database

TOUCH_INTERVAL_S = 5


async def touch(database: Database, file: Path | None) -> None:
    """Touches a file every five seconds while the database responds, until the task is cancelled. None: no file."""
    while file is not None:
        with contextlib.suppress(DatabaseUnavailable):
            async with database.transaction() as connection:
                await connection.execute(text("SELECT 1"))
            await asyncio.to_thread(file.touch)
        await asyncio.sleep(TOUCH_INTERVAL_S)
