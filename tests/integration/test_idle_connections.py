"""Connections that break while they are idle are replaced before a request uses them."""

import asyncio

import pytest
from sqlalchemy import text

from service.gallery.storage import idle_connections
from service.gallery.storage.database import Database

pytestmark = pytest.mark.anyio


async def backend(database: Database) -> int:
    async with database.transaction() as connection:
        return int((await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one())


async def end(database: Database, pid: int) -> None:
    """Ends another connection, as a restart of the server does."""
    async with database.transaction() as connection:
        await connection.execute(text("SELECT pg_terminate_backend(CAST(:pid AS int))"), {"pid": pid})


async def test_a_connection_that_broke_while_idle_is_replaced(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idle_connections, "TESTED_AFTER_S", 0.2)
    other = Database(database.url, pool_size=1)
    try:
        first = await backend(other)
        await end(database, first)
        await asyncio.sleep(0.3)
        second = await backend(other)
        assert second != first
        assert await backend(other) == second
    finally:
        await other.close()
