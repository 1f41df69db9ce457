"""The queue of long work, on Procrastinate: what is handed over is kept in PostgreSQL and delivered at least once."""

import contextlib
import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

import psycopg
from procrastinate import App, BaseRetryStrategy, JobContext, PsycopgConnector, RetryDecision
from procrastinate.exceptions import AlreadyEnqueued, ConnectorException, JobAborted
from procrastinate.jobs import Job as QueuedJob
from psycopg_pool import PoolTimeout
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import Unavailable
from service.gallery.storage import queue_schema

PREPARE, BATCH, MAINTAIN = "prepare", "portion", "maintain"
QUEUE, HOUSE = "registry", "registry-house"
ATTEMPTS = 10
MOST_DELIVERIES = 50
LONGEST_PAUSE_S = 60
CONCURRENCY = 2
GRACE_S = 5.0
"""For what runs when the process is stopped; what it had not done yet is done elsewhere or later."""
OUTAGES = (ConnectorException, PoolTimeout, psycopg.Error, OSError)
HEARTBEAT_S = 2.0
STALLED_AFTER_S = 10.0
"""A worker that has not been heard of for so long is taken for dead, and its tasks are given to others."""

log = logging.getLogger(__name__)
Work = Callable[..., Awaitable[None]]


class _Again(BaseRetryStrategy):
    """Tries again, later each time; at once where the process was only stopped."""

    def get_retry_decision(self, *, exception: BaseException, job: QueuedJob) -> RetryDecision | None:
        if not isinstance(exception, Exception) or isinstance(exception, JobAborted):
            return RetryDecision(retry_in={"seconds": 0})
        if job.attempts >= ATTEMPTS and not isinstance(exception, Unavailable):
            return None
        return RetryDecision(retry_in={"seconds": min(2**job.attempts, LONGEST_PAUSE_S)})


class Queue:
    """Hands tasks over and runs them.

    Args:
        url: of the database.
        has: what this process has that not every one does: the name of a folder of uploads that it can read, models.
        work: what is done for a task of each name, with the task's arguments.
        retries_exhausted: told the arguments of a task that failed time and again.
    """

    def __init__(
        self, url: str, has: Sequence[str] = (), work: Mapping[str, Work] | None = None, retries_exhausted: Work | None = None
    ) -> None:
        self._listens = [QUEUE, *map(_that_needs, has)]
        self._app = App(
            connector=PsycopgConnector(
                conninfo=url.replace("postgresql+psycopg://", "postgresql://", 1),
                kwargs={
                    "options": f"-c search_path={queue_schema.SCHEMA},public",
                    "application_name": "identity-registry-jobs",
                },
                min_size=1,
                max_size=5,
                timeout=10,
            )
        )
        for name, act in (work or {}).items():
            # The maintenance belongs to no job that could fail; it comes again.
            told = None if name == MAINTAIN else retries_exhausted
            self._app.task(name=name, retry=_Again(), pass_context=True)(_task(act, told))

    async def put(
        self,
        connection: AsyncConnection,
        name: str,
        arguments: Sequence[Mapping[str, Any]],
        needs: str | None = None,
    ) -> None:
        """Hand tasks over in the caller's transaction: they are delivered once it is committed, or never.

        `needs`: only processes that have it get them.
        """
        raw = await connection.get_raw_connection()
        queue = QUEUE if needs is None else _that_needs(needs)
        configured = self._app.configure_task(name, queue=queue, connection=raw.driver_connection, allow_unknown=True)
        before = await connection.run_sync(queue_schema.enter)
        await configured.batch_defer_async(*map(dict, arguments))
        await connection.run_sync(queue_schema.leave, before)

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Connected to the database. Raises OUTAGES."""
        async with self._app.open_async():
            yield

    async def run(self) -> None:
        """Work on jobs until cancelled. Returns, or raises OUTAGES, where the database goes away."""
        await self._run(self._listens, CONCURRENCY)

    async def run_house(self) -> None:
        """As `run`, for the maintenance: portions that wait for something must not keep it waiting."""
        await self._run([HOUSE], 1)

    async def _run(self, queues: Sequence[str], concurrency: int) -> None:
        await self._app.run_worker_async(
            queues=queues,
            concurrency=concurrency,
            delete_jobs="successful",
            install_signal_handlers=False,
            shutdown_graceful_timeout=GRACE_S,
            update_heartbeat_interval=HEARTBEAT_S,
            stalled_worker_timeout=STALLED_AFTER_S,
        )

    async def put_maintenance(self) -> None:
        """Hand over the maintenance, unless it waits already."""
        task = self._app.configure_task(
            MAINTAIN, queue=HOUSE, lock=MAINTAIN, queueing_lock=MAINTAIN, allow_unknown=True
        )
        with contextlib.suppress(AlreadyEnqueued):
            await task.defer_async()

    async def pick_up_stalled(self) -> int:
        """Give the tasks of workers that died to others; how many."""
        manager = self._app.job_manager
        picked_up = 0
        for job in await manager.get_stalled_jobs(seconds_since_heartbeat=STALLED_AFTER_S):
            with contextlib.suppress(ConnectorException):  # another process was faster
                await manager.retry_job(job)
                picked_up += 1
        return picked_up


def _task(act: Work, retries_exhausted: Work | None) -> Work:
    async def run(context: JobContext, **arguments: Any) -> None:
        if context.job.attempts >= MOST_DELIVERIES and retries_exhausted is not None:
            await retries_exhausted(**arguments)  # it brings down the process that works on it, again and again
            return
        try:
            await act(**arguments)
        except Unavailable:
            raise
        except Exception:
            log.exception("a task %r failed", context.job.task_name)
            if context.job.attempts >= ATTEMPTS and retries_exhausted is not None:
                await retries_exhausted(**arguments)
            raise

    return run


def _that_needs(name: str) -> str:
    return f"{QUEUE}-{name}"


def arguments_of(collection_id: uuid.UUID, job_id: uuid.UUID, **more: int) -> dict[str, Any]:
    """A task's arguments: ids and numbers, nothing about people."""
    return {"collection_id": str(collection_id), "job_id": str(job_id), **more}


async def queued_tasks(connection: AsyncConnection) -> dict[str, int]:
    """How many tasks wait, and how many are worked on."""
    query = text(
        "SELECT count(*) FILTER (WHERE status = 'todo'), count(*) FILTER (WHERE status = 'doing') "
        "FROM procrastinate.procrastinate_jobs WHERE status IN ('todo', 'doing')"
    )
    waiting, running = (await connection.execute(query)).one()
    return {"waiting": waiting, "running": running}
