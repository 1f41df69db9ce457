"""Shares of the connections, time limits of transactions, and errors that are not those of the database."""

import asyncio
import time
import uuid

import pytest
from sqlalchemy import text

from service.errors import DatabaseUnavailable
from service.gallery.storage.connection_shares import CALLER
from service.gallery.storage.database import STATEMENT_TIMEOUT_S, Database

pytestmark = pytest.mark.anyio


async def sleep(database: Database, caller: uuid.UUID | None, seconds: float, timeout_s: float = 8) -> float:
    """Runs a slow statement for an API key; returns the seconds until it was done."""
    CALLER.set(caller)
    started = time.monotonic()
    async with database.transaction(timeout_s=timeout_s) as connection:
        await connection.execute(text("SELECT pg_sleep(:seconds)"), {"seconds": seconds})
    return time.monotonic() - started


async def test_slow_queries_of_one_key_do_not_delay_other_keys(postgres_url: str) -> None:
    database, ours, theirs = Database(postgres_url, pool_size=4), uuid.uuid4(), uuid.uuid4()
    slow = [asyncio.create_task(sleep(database, ours, 0.6)) for _ in range(6)]
    await asyncio.sleep(0.2)
    assert await asyncio.create_task(sleep(database, theirs, 0)) < 0.4
    assert await asyncio.create_task(sleep(database, None, 0)) < 0.4
    assert max(await asyncio.gather(*slow)) > 1.7  # two at a time
    assert database._shares._semaphores == {}
    await database.close()


async def test_a_key_that_waits_too_long_for_its_share_gets_503(postgres_url: str) -> None:
    database, ours = Database(postgres_url, pool_size=2, pool_timeout_s=0.2), uuid.uuid4()
    slow = asyncio.create_task(sleep(database, ours, 0.6))
    await asyncio.sleep(0.1)
    with pytest.raises(DatabaseUnavailable, match="connections are in use"):
        await asyncio.create_task(sleep(database, ours, 0))
    await slow
    await database.close()


async def test_the_client_ends_a_transaction_at_its_deadline(postgres_url: str) -> None:
    """`statement_timeout` is off: a suspended server enforces nothing."""
    database = Database(postgres_url)

    async def sleep_without_limit() -> None:
        async with database.transaction(timeout_s=0.3) as connection:
            await connection.execute(text("SET LOCAL statement_timeout = 0"))
            await connection.execute(text("SELECT pg_sleep(20)"))

    started = time.monotonic()
    with pytest.raises(DatabaseUnavailable):
        await sleep_without_limit()
    assert time.monotonic() - started < 2
    assert await sleep(database, None, 0) < 2
    await database.close()


async def test_the_server_ends_a_statement_after_five_seconds(postgres_url: str) -> None:
    assert STATEMENT_TIMEOUT_S == 5
    database = Database(postgres_url)
    async with database.transaction() as connection:
        assert (await connection.execute(text("SHOW statement_timeout"))).scalar() == "5s"
    async with database.transaction(timeout_s=60) as connection:
        assert (await connection.execute(text("SHOW statement_timeout"))).scalar() == "1min"
    await database.close()


async def test_errors_of_the_caller_are_not_outages(postgres_url: str) -> None:
    database = Database(postgres_url)
    for error in (OSError("the caller's disk"), TimeoutError("the caller's limit")):
        with pytest.raises(type(error), match="the caller's"):
            async with database.transaction():
                raise error
    await database.close()
