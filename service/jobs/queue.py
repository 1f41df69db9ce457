"""The task queue, based on Procrastinate: PostgreSQL stores the tasks and delivers each at least once."""

import contextlib
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import psycopg
from procrastinate import App, BaseRetryStrategy, JobContext, PsycopgConnector, RetryDecision
from procrastinate.exceptions import AlreadyEnqueued, ConnectorException, JobAborted
from procrastinate.jobs import DeleteJobCondition, Status
from procrastinate.jobs import Job as QueuedJob
from psycopg_pool import PoolTimeout
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import Unavailable
from service.gallery.storage import queue_schema

# The stored names of tasks and queues. Other releases may run against the same database, so the names never change;
# "portion" and "registry-house" are the names of release 0.1.
PREPARE, BATCH, MAINTAIN, DELIVER = "prepare", "portion", "maintain", "deliver"
QUEUE, MAINTENANCE_QUEUE, WEBHOOK_QUEUE = "registry", "registry-house", "registry-webhooks"

MAX_RETRY_DELAY_S = 60
CONNECTIONS = 7
"""Connections of a process for the queue. Each of the three kinds of workers listens on one."""
CONCURRENCY = 2
WEBHOOK_CONCURRENCY = 4
SHUTDOWN_GRACE_S = 5.0
"""Seconds that running tasks have to end when the process stops. Rows without a result are processed later."""
_RUNNING = "SELECT id, attempts, task_name FROM procrastinate_jobs WHERE status = 'doing' AND id = ANY(%(ids)s)"
OUTAGES = (ConnectorException, PoolTimeout, psycopg.Error, OSError)
HEARTBEAT_S = 2.0
STALLED_AFTER_S = 10.0
"""Seconds without a heartbeat after which a worker is considered dead and its tasks are delivered again."""

log = logging.getLogger(__name__)
Work = Callable[..., Awaitable[None]]


class RetryLater(Exception):
    """A task asks for its next attempt. `delay_s`: seconds until then."""

    def __init__(self, delay_s: int) -> None:
        super().__init__(delay_s)
        self.delay_s = delay_s


class _RetryStrategy(BaseRetryStrategy):
    """Retries with exponentially growing delays, and at once if the process was stopped.

    There is no maximum: `service.jobs.deliveries` counts the deliveries that failed and ends the job.
    """

    def get_retry_decision(self, *, exception: BaseException, job: QueuedJob) -> RetryDecision:
        if not isinstance(exception, Exception) or isinstance(exception, JobAborted):
            return RetryDecision(retry_in={"seconds": 0})
        if isinstance(exception, RetryLater):
            return RetryDecision(retry_in={"seconds": exception.delay_s})
        return RetryDecision(retry_in={"seconds": min(2 ** min(job.attempts, 10), MAX_RETRY_DELAY_S)})


class Queue:
    """Enqueues and executes tasks.

    Args:
        url: SQLAlchemy URL of the database.
        capabilities: the name of the readable upload folder and the loaded models. The process receives only tasks
            that require one of these capabilities or none.
        work: function to call for the tasks of each name, with the arguments of the task.
    """

    def __init__(
        self,
        url: str,
        capabilities: Sequence[str] = (),
        work: Mapping[str, Work] | None = None,
    ) -> None:
        self._queues = [QUEUE, *map(_queue_for, capabilities)]
        self._app = App(
            connector=PsycopgConnector(
                conninfo=url.replace("postgresql+psycopg://", "postgresql://", 1),
                kwargs={
                    "options": f"-c search_path={queue_schema.SCHEMA},public",
                    "application_name": "identity-registry-jobs",
                },
                min_size=1,
                max_size=CONNECTIONS,
                timeout=10,
            )
        )
        self._ended: dict[tuple[int, int], float] = {}
        """When each attempt of a task ended: (id of the task, number of the attempt) -> time.monotonic()."""
        for name, function in (work or {}).items():
            # The next maintenance replaces a failed one. A retry would violate the queueing lock of the next one.
            retry = False if name == MAINTAIN else _RetryStrategy()
            self._app.task(name=name, retry=retry, pass_context=True)(self._task(function))

    async def enqueue(
        self,
        connection: AsyncConnection,
        name: str,
        arguments: Sequence[Mapping[str, Any]],
        requires: str | None = None,
        queue: str | None = None,
    ) -> None:
        """Enqueues one task per element of `arguments`, in the transaction of the caller.

        Workers receive the tasks after the commit; a rollback removes them.

        Args:
            requires: only processes with this capability receive the tasks.
            queue: instead of the queue of jobs.
        """
        raw = await connection.get_raw_connection()
        queue = queue or (QUEUE if requires is None else _queue_for(requires))
        task = self._app.configure_task(name, queue=queue, connection=raw.driver_connection, allow_unknown=True)
        search_path = await connection.run_sync(queue_schema.enter)
        await task.batch_defer_async(*map(dict, arguments))
        await connection.run_sync(queue_schema.leave, search_path)

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """Keeps the connections to the database open while the block runs. Raises OUTAGES."""
        async with self._app.open_async():
            yield

    async def run(self) -> None:
        """Executes the tasks of jobs until cancelled. Returns or raises OUTAGES if the database connection breaks."""
        await self._run(self._queues, CONCURRENCY)

    async def run_maintenance(self) -> None:
        """Executes maintenance tasks like `run`. Their own queue keeps blocked batches from delaying them."""
        await self._run([MAINTENANCE_QUEUE], 1, DeleteJobCondition.ALWAYS)

    async def run_webhooks(self) -> None:
        """Delivers webhooks like `run`. Their own queue keeps slow receivers from delaying jobs."""
        await self._run([WEBHOOK_QUEUE], WEBHOOK_CONCURRENCY)

    async def _run(
        self, queues: Sequence[str], concurrency: int, delete: DeleteJobCondition = DeleteJobCondition.SUCCESSFUL
    ) -> None:
        await self._app.run_worker_async(
            queues=queues,
            concurrency=concurrency,
            delete_jobs=delete,
            install_signal_handlers=False,
            shutdown_graceful_timeout=SHUTDOWN_GRACE_S,
            update_heartbeat_interval=HEARTBEAT_S,
            stalled_worker_timeout=STALLED_AFTER_S,
        )

    async def enqueue_maintenance(self) -> None:
        """Enqueues a maintenance task unless one is waiting already."""
        task = self._app.configure_task(
            MAINTAIN, queue=MAINTENANCE_QUEUE, lock=MAINTAIN, queueing_lock=MAINTAIN, allow_unknown=True
        )
        with contextlib.suppress(AlreadyEnqueued):
            await task.defer_async()

    async def retry_stalled(self) -> int:
        """Makes the tasks of dead workers available to other workers. Returns their number.

        Further tasks are those whose function has ended in this process and whose end Procrastinate could not store,
        because the database was unreachable.

        A maintenance task is deleted instead: the next one replaces it. If that one waits already, a second waiting
        task would violate the queueing lock, and the lock of the dead worker's task would block it forever.
        """
        manager = self._app.job_manager
        stalled = await manager.get_stalled_jobs(seconds_since_heartbeat=STALLED_AFTER_S)
        tasks = {job.id: job.task_name for job in stalled if job.id is not None} | await self._ended_but_running()
        retried = 0
        for task_id, name in tasks.items():
            with contextlib.suppress(ConnectorException):  # another process has retried the task first
                if name == MAINTAIN:
                    await manager.finish_job_by_id_async(job_id=task_id, status=Status.FAILED, delete_job=True)
                else:
                    await manager.retry_job_by_id_async(job_id=task_id, retry_at=datetime.now(UTC))
                retried += 1
        return retried

    async def _ended_but_running(self) -> dict[int, str]:
        """Returns the names of tasks, by id, that ended here at least 10 s ago and are still marked as running."""
        due = {key for key, ended_at in self._ended.items() if time.monotonic() - ended_at >= STALLED_AFTER_S}
        if not due:
            return {}
        rows = await self._app.connector.execute_query_all_async(_RUNNING, ids=[task_id for task_id, _ in due])
        for key in due:
            self._ended.pop(key, None)
        return {row["id"]: row["task_name"] for row in rows if (row["id"], row["attempts"]) in due}

    def _task(self, function: Work) -> Work:
        async def run(context: JobContext, **arguments: Any) -> None:
            job = context.job
            try:
                await function(**arguments)
            except (Unavailable, RetryLater):
                raise
            except Exception:
                log.exception("task %r failed in attempt %d", job.task_name, job.attempts)
                raise
            finally:
                if job.id is not None:
                    self._ended[job.id, job.attempts] = time.monotonic()

        return run


def _queue_for(capability: str) -> str:
    return f"{QUEUE}-{capability}"


def task_arguments(collection_id: uuid.UUID, job_id: uuid.UUID, **numbers: int) -> dict[str, Any]:
    """Returns the arguments of a task: ids and row numbers, no personal data."""
    return {"collection_id": str(collection_id), "job_id": str(job_id), **numbers}


async def queued_tasks(connection: AsyncConnection) -> dict[str, int]:
    """Returns the numbers of `waiting` and `running` tasks."""
    query = text(
        "SELECT count(*) FILTER (WHERE status = 'todo'), count(*) FILTER (WHERE status = 'doing') "
        "FROM procrastinate.procrastinate_jobs WHERE status IN ('todo', 'doing')"
    )
    waiting, running = (await connection.execute(query)).one()
    return {"waiting": waiting, "running": running}
