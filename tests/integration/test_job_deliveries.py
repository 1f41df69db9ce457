"""A task whose process dies is delivered three times; outages and restarts use up no delivery."""

import asyncio
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from service.errors import DatabaseUnavailable, EngineUnavailable
from service.gallery.jobs import jobs
from service.gallery.jobs.records import Job, JobRef, JobState
from service.gallery.people import collections
from service.gallery.storage import schema
from service.gallery.storage.database import Database
from service.jobs.batches import Jobs, RowWriter, Session, enqueue_preparation
from service.jobs.deliveries import MAX_DELIVERIES, Deliveries
from service.jobs.queue import Queue
from tests.databases import libpq, new_database, other_database
from tests.server import wait_for

pytestmark = pytest.mark.anyio
PROCESS = """
import asyncio, os, signal, sys
from service.gallery.storage.database import Database
from service.jobs import queue, runner
from service.jobs.batches import Jobs
from service.jobs.deliveries import Deliveries
from service.jobs.queue import BATCH, MAINTAIN, PREPARE, Queue

url, log, mode = sys.argv[1:]
queue.HEARTBEAT_S, queue.STALLED_AFTER_S, queue.SHUTDOWN_GRACE_S = 0.2, 1.0, 0.1

class Kind:
    async def plan_rows(self, job):
        with open(log, "a") as file:
            file.write("delivery\\n")
        if mode == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if mode == "error":
            raise ValueError("an unexpected error")
        await asyncio.sleep(3600)

    async def finished(self, job_ref):
        pass

async def nothing():
    pass

async def main():
    database = Database(url)
    deliveries = Deliveries(database)
    tasks = Jobs(database, Queue(url), {"test": Kind()}, deliveries)
    work = {PREPARE: tasks.prepare, BATCH: tasks.batch, MAINTAIN: nothing}
    running = asyncio.create_task(runner.run(Queue(url, (), work), 0.2, deliveries.remove_ended, nothing))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    await asyncio.wait([running])

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def url(postgres_url: str) -> Iterator[str]:
    """A database of its own, so that no service of another test receives the tasks."""
    with new_database(postgres_url) as url:
        schema.upgrade(url)
        yield url


@pytest.fixture
async def gallery(url: str) -> AsyncIterator[Database]:
    database = Database(url)
    yield database
    await database.engine.dispose()


async def started(database: Database) -> JobRef:
    """Creates a job with its first task in a collection of its own."""
    async with database.transaction(all_collections=True) as connection:
        await collections.add_model(connection, "tiny", 16, "0" * 64)
        collection = await collections.create(connection, f"test-{uuid.uuid4().hex[:12]}", "tiny")
        job = await jobs.create(connection, JobRef(collection.id, uuid.uuid4()), "test", {})
        await enqueue_preparation(Queue(database.url), connection, job)
    return JobRef(collection.id, job.id)


async def current(database: Database, job_ref: JobRef) -> Job:
    async with database.transaction(collection_id=job_ref.collection_id) as connection:
        return await jobs.get(connection, job_ref)


def process(url: str, log: Path, mode: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", PROCESS, url, str(log), mode])


def delivered(log: Path) -> int:
    return log.read_text().count("delivery") if log.exists() else 0


async def test_task_that_kills_its_process_is_delivered_three_times(gallery: Database, tmp_path: Path) -> None:
    job_ref, log = await started(gallery), tmp_path / "log"
    for number in range(1, MAX_DELIVERIES + 1):
        running = process(gallery.url, log, "kill")
        assert await asyncio.to_thread(running.wait, 30) == -signal.SIGKILL
        assert delivered(log) == number
        assert (await current(gallery, job_ref)).state is JobState.WAITING
    running = process(gallery.url, log, "kill")
    try:
        async with asyncio.timeout(30):
            while (job := await current(gallery, job_ref)).state is JobState.WAITING:
                await asyncio.sleep(0.1)
        assert running.poll() is None, "the task was executed a fourth time"
    finally:
        running.terminate()
        await asyncio.to_thread(running.wait, 30)
    assert (job.state, delivered(log)) == (JobState.FAILED, MAX_DELIVERIES)
    assert "ended unexpectedly 3 times" in (job.problem or "")


async def test_unexpected_errors_fail_the_job_after_three_deliveries(gallery: Database, tmp_path: Path) -> None:
    job_ref, log = await started(gallery), tmp_path / "log"
    running = process(gallery.url, log, "error")
    async with asyncio.timeout(60):
        while (job := await current(gallery, job_ref)).state is JobState.WAITING:
            await asyncio.sleep(0.1)
    running.terminate()
    assert await asyncio.to_thread(running.wait, 30) == 0
    assert (job.state, delivered(log)) == (JobState.FAILED, MAX_DELIVERIES)
    assert "internal error" in (job.problem or "")


async def test_job_survives_twenty_restarts(gallery: Database, tmp_path: Path) -> None:
    job_ref, log = await started(gallery), tmp_path / "log"
    for number in range(1, 21):
        running = process(gallery.url, log, "wait")
        await asyncio.to_thread(wait_for, lambda expected=number: delivered(log) == expected, 30)
        running.terminate()
        assert await asyncio.to_thread(running.wait, 30) == 0
    assert (await current(gallery, job_ref)).state is JobState.WAITING
    running = process(gallery.url, log, "kill")  # all deliveries are still available
    assert await asyncio.to_thread(running.wait, 30) == -signal.SIGKILL
    assert (await current(gallery, job_ref)).state is JobState.WAITING


class Unreachable:
    """A kind of job whose workers are unavailable."""

    async def plan_rows(self, job: Job) -> RowWriter:
        raise EngineUnavailable("no worker responds")

    async def open(self, job: Job) -> Session:
        raise NotImplementedError

    async def finished(self, job_ref: JobRef) -> None:
        pass


async def test_job_survives_a_long_outage_of_the_workers(gallery: Database) -> None:
    """In an hour the task is delivered about 65 times."""
    job_ref = await started(gallery)
    tasks = Jobs(gallery, Queue(gallery.url), {"test": Unreachable()}, Deliveries(gallery))
    for _ in range(70):
        with pytest.raises(EngineUnavailable):
            await tasks.prepare(str(job_ref.collection_id), str(job_ref.id))
    assert (await current(gallery, job_ref)).state is JobState.WAITING


async def test_deliveries_that_end_during_an_outage_of_the_database_are_not_counted(gallery: Database) -> None:
    job_ref = await started(gallery)
    deliveries = Deliveries(gallery)

    def allow(connections: bool) -> None:
        name = make_url(gallery.url).database
        with psycopg.connect(libpq(other_database(gallery.url, "postgres")), autocommit=True) as connection:
            connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS {connections}")
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
            ).fetchall()

    async def interrupted() -> None:
        await asyncio.to_thread(allow, False)
        await current(gallery, job_ref)

    for _ in range(2 * MAX_DELIVERIES):
        with pytest.raises(DatabaseUnavailable):
            await deliveries.run(job_ref, "prepare", interrupted)
        assert len(deliveries.ended) == 1
        await asyncio.to_thread(allow, True)
    await deliveries.remove_ended()
    async with gallery.transaction(collection_id=job_ref.collection_id) as connection:
        recorded = await connection.exec_driver_sql("SELECT deliveries FROM job WHERE id = %s", (job_ref.id,))
    assert recorded.scalar_one() == {}
