"""Tests that tasks of killed job runners are executed by others."""

import asyncio
import contextlib

import psycopg
import pytest
from procrastinate.exceptions import ConnectorException

from service.gallery.storage import schema
from service.jobs import queue as queue_module
from service.jobs.queue import BATCH, MAINTAIN, Queue
from tests.databases import libpq

FETCH = (
    "UPDATE procrastinate.procrastinate_jobs SET status = 'doing' WHERE task_name = %s AND status = 'todo' RETURNING id"
)
"""Marks a task as running without a worker, as after the death of the worker that has fetched it."""
TASKS = "SELECT count(*) FROM procrastinate.procrastinate_jobs WHERE status IN ('todo', 'doing')"


@pytest.fixture
def queue_url(empty_database: str) -> str:
    """Returns a migrated database that no other test uses."""
    schema.upgrade(empty_database)
    return empty_database


def _fetch(url: str, task: str) -> None:
    with psycopg.connect(libpq(url)) as connection:
        connection.execute("SET search_path = procrastinate")
        assert connection.execute(FETCH, [task]).rowcount == 1


async def _run_maintenance_until(event: asyncio.Event, queue: Queue) -> None:
    running = asyncio.create_task(queue.run_maintenance())
    await asyncio.wait_for(event.wait(), 20)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


@pytest.mark.anyio
async def test_maintenance_runs_after_the_death_of_its_worker(queue_url: str) -> None:
    """The next maintenance task waits already when the dead worker is noticed."""
    executed = asyncio.Event()

    async def maintain() -> None:
        executed.set()

    queue = Queue(queue_url, work={MAINTAIN: maintain})
    async with queue.connected():
        await queue.enqueue_maintenance()
        _fetch(queue_url, MAINTAIN)
        await queue.enqueue_maintenance()
        assert await queue.retry_stalled() == 1
        await _run_maintenance_until(executed, queue)
    with psycopg.connect(libpq(queue_url)) as connection:
        assert connection.execute(TASKS).fetchone() == (0,)


@pytest.mark.anyio
async def test_batch_of_a_dead_worker_is_delivered_again(queue_url: str) -> None:
    async def process() -> None: ...

    queue = Queue(queue_url, work={BATCH: process})
    async with queue.connected():
        await queue._app.configure_task(BATCH, queue="registry").defer_async()
        _fetch(queue_url, BATCH)
        assert await queue.retry_stalled() == 1
        assert await queue.retry_stalled() == 0
    with psycopg.connect(libpq(queue_url)) as connection:
        assert connection.execute(TASKS).fetchone() == (1,)


@pytest.mark.anyio
async def test_a_failed_maintenance_does_not_block_the_next_one(queue_url: str) -> None:
    """The next task waits while the first one fails. A retry of the first one would violate the queueing lock."""
    second = asyncio.Event()
    calls = 0

    async def maintain() -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            await queue.enqueue_maintenance()
            raise RuntimeError("the first maintenance fails")
        second.set()

    queue = Queue(queue_url, work={MAINTAIN: maintain})
    async with queue.connected():
        await queue.enqueue_maintenance()
        await _run_maintenance_until(second, queue)
    with psycopg.connect(libpq(queue_url)) as connection:
        assert connection.execute("SELECT count(*) FROM procrastinate.procrastinate_jobs").fetchone() == (0,)


BROKEN = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF OLD.status = 'doing' THEN RAISE EXCEPTION 'the end of the task cannot be stored'; END IF; RETURN NEW;
END $$;
CREATE TRIGGER refuse BEFORE UPDATE OR DELETE ON procrastinate.procrastinate_jobs FOR EACH ROW EXECUTE FUNCTION refuse()
"""


@pytest.mark.anyio
async def test_a_task_whose_end_was_not_stored_is_delivered_again(
    queue_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_module, "STALLED_AFTER_S", 1.0)
    ends: list[int] = []
    ended = asyncio.Event()

    async def process() -> None:
        ends.append(len(ends))
        ended.set()

    # Procrastinate leaves the error of the task that stores the end to the event loop.
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    queue = Queue(queue_url, work={BATCH: process})
    with psycopg.connect(libpq(queue_url), autocommit=True) as connection:
        async with queue.connected():
            await queue._app.configure_task(BATCH, queue="registry").defer_async()
            connection.execute(BROKEN)
            running = asyncio.create_task(queue.run())
            await asyncio.wait_for(ended.wait(), 20)
            ended.clear()
            await asyncio.sleep(1.1)
            connection.execute("DROP TRIGGER refuse ON procrastinate.procrastinate_jobs")
            assert await queue.retry_stalled() == 1
            await asyncio.wait_for(ended.wait(), 20)
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectorException):  # the failure to store the end
                await running
        assert connection.execute(TASKS).fetchone() == (0,)
    assert ends == [0, 1]
