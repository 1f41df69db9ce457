"""Execution of jobs: splits their rows into batches that several processes work on.

The result of each row is stored exactly once, even if a process is killed: a row is finished in the transaction that
writes its result, and a task that is delivered again skips finished rows.
"""

import asyncio
import itertools
import logging
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import InternalError, JobNotFound, RegistryError, Unavailable
from service.gallery.jobs import jobs
from service.gallery.jobs import rows as job_rows
from service.gallery.jobs.records import UNFINISHED, Job, JobRef, JobRow, JobState, RowResult, RowsTakenError, RowStatus
from service.gallery.storage.database import BACKGROUND_S, Database
from service.jobs.deliveries import Deliveries, DeliveriesExhausted
from service.jobs.queue import BATCH, PREPARE, Queue, task_arguments
from service.telemetry.metrics import JOB_ROWS

ROWS_PER_TASK = 500
ROWS_PER_READ = 64
RETRY_DELAYS_S = (1, 2, 5, 10, 20)
log = logging.getLogger(__name__)


RowWriter = Callable[[AsyncConnection, JobRef], Awaitable[int]]
"""Inserts the rows of a job in the transaction that starts it. Returns their number. Raises RegistryError."""


class Session(Protocol):
    """The resources that one task holds while it works on a job."""

    @property
    def rows_at_once(self) -> int:
        """Number of rows to pass to `work`."""
        ...

    async def work(self, rows: Sequence[JobRow]) -> bool:
        """Processes rows. Returns False if the service could not process some of them yet; they stay waiting."""
        ...

    def close(self) -> None: ...


class JobKind(Protocol):
    """The implementation of one kind of job."""

    @property
    def rows_per_task(self) -> int:
        """Number of rows of one task of the queue. Several processes work on different tasks of the same job."""
        ...

    async def plan_rows(self, job: Job) -> RowWriter:
        """Determines the rows of a job. Raises RegistryError: the job cannot be executed."""
        ...

    async def open(self, job: Job) -> Session:
        """Opens the resources of one task. Raises RegistryError: the job cannot continue."""
        ...

    async def finished(self, job_ref: JobRef) -> None:
        """Releases the resources of a job. Called when the job is done, failed, cancelled or deleted."""
        ...


@dataclass(frozen=True)
class Jobs:
    """The two tasks of every job: `prepare`, which inserts its rows, and `batch`, which processes some of them.

    Attributes:
        kinds: implementation by name of the kind.
    """

    database: Database
    queue: Queue
    kinds: Mapping[str, JobKind]
    deliveries: Deliveries

    async def prepare(self, collection_id: str, job_id: str) -> None:
        """Inserts the rows of a waiting job and enqueues its batches."""
        job_ref = JobRef(uuid.UUID(collection_id), uuid.UUID(job_id))
        await self._deliver(job_ref, "prepare", partial(self._prepare, job_ref))

    async def batch(self, collection_id: str, job_id: str, first: int, last: int) -> None:
        """Processes the waiting rows from `first` to `last`. The task that processes the last row finishes the job."""
        job_ref = JobRef(uuid.UUID(collection_id), uuid.UUID(job_id))
        await self._deliver(job_ref, f"batch {first}-{last}", partial(self._batch, job_ref, first, last))

    async def _deliver(self, job_ref: JobRef, task: str, work: Callable[[], Awaitable[None]]) -> None:
        """Executes a task, or fails its job if its deliveries are exhausted."""
        try:
            await self.deliveries.run(job_ref, task, work)
        except DeliveriesExhausted as error:
            async with self.database.transaction(collection_id=job_ref.collection_id) as connection:
                await jobs.fail(connection, job_ref, str(error))
                kind = (await jobs.get(connection, job_ref)).kind
            if kind in self.kinds:
                await self.kinds[kind].finished(job_ref)

    async def _prepare(self, job_ref: JobRef) -> None:
        if (job := await self._in_state(job_ref, JobState.WAITING)) is None:
            return
        kind = self.kinds[job.kind]
        try:
            await self._start(job_ref, await kind.plan_rows(job))
        except Unavailable:
            raise
        except RegistryError as error:
            async with self.database.transaction(collection_id=job_ref.collection_id) as connection:
                await jobs.fail(connection, job_ref, error.detail)
            await kind.finished(job_ref)
            return
        await self._finish_if_done(job, job_ref)  # a job may have no row to process

    async def _start(self, job_ref: JobRef, write_rows: RowWriter) -> None:
        scope = self.database.transaction(collection_id=job_ref.collection_id, timeout_s=BACKGROUND_S)
        async with scope as connection:
            job = await jobs.get(connection, job_ref, lock=True)
            if job.state is not JobState.WAITING:
                return
            total = await write_rows(connection, job_ref)
            await jobs.start(connection, job_ref, total)
            await enqueue_batches(self.queue, connection, job, 0, total - 1, self.kinds[job.kind].rows_per_task)

    async def _batch(self, job_ref: JobRef, first: int, last: int) -> None:
        if (job := await self._in_state(job_ref, JobState.RUNNING)) is None:
            return
        try:
            session = await self.kinds[job.kind].open(job)
            try:
                await self._process(job_ref, session, first, last)
            finally:
                session.close()
        except Unavailable:
            raise
        except RegistryError as error:
            async with self.database.transaction(collection_id=job_ref.collection_id) as connection:
                await jobs.fail(connection, job_ref, error.detail)
        await self._finish_if_done(job, job_ref)

    async def _process(self, job_ref: JobRef, session: Session, first: int, last: int) -> None:
        delays = _retry_delays()
        while await self._in_state(job_ref, JobState.RUNNING) is not None:
            async with self.database.transaction(collection_id=job_ref.collection_id) as connection:
                rows = await job_rows.waiting_rows(connection, job_ref, first, last, session.rows_at_once)
            if not rows:
                return
            if await session.work(rows):
                delays = _retry_delays()
            else:
                await asyncio.sleep(next(delays))

    async def _in_state(self, job_ref: JobRef, state: JobState) -> Job | None:
        try:
            async with self.database.transaction(collection_id=job_ref.collection_id) as connection:
                job = await jobs.get(connection, job_ref)
        except JobNotFound:  # the collection was deleted
            return None
        return job if job.state is state else None

    async def _finish_if_done(self, job: Job, job_ref: JobRef) -> None:
        async with self.database.transaction(collection_id=job_ref.collection_id) as connection:
            await jobs.finish_if_done(connection, job_ref)
            try:
                finished = (await jobs.get(connection, job_ref)).state not in UNFINISHED
            except JobNotFound:
                finished = True
        if finished:
            await self.kinds[job.kind].finished(job_ref)


async def enqueue_preparation(queue: Queue, connection: AsyncConnection, job: Job) -> None:
    """Enqueues the task that inserts the rows of a waiting job."""
    await queue.enqueue(connection, PREPARE, [task_arguments(job.collection_id, job.id)], _required_capability(job))


async def enqueue_batches(
    queue: Queue, connection: AsyncConnection, job: Job, first: int, last: int, rows_per_task: int = ROWS_PER_TASK
) -> None:
    """Enqueues the tasks that process the rows of a job from `first` to `last`."""
    batches = [
        task_arguments(job.collection_id, job.id, first=start, last=min(start + rows_per_task - 1, last))
        for start in range(first, last + 1, rows_per_task)
    ]
    await queue.enqueue(connection, BATCH, batches, _required_capability(job))


async def finish(database: Database, kind: str, job_ref: JobRef, results: Sequence[RowResult]) -> None:
    """Stores the results of rows in a separate transaction. Raises RowsTakenError."""
    if not results:
        return
    async with database.transaction(collection_id=job_ref.collection_id) as connection:
        await job_rows.finish_rows(connection, job_ref, results)
    count(kind, results)


def count(kind: str, results: Sequence[RowResult]) -> None:
    """Adds committed results to the metrics."""
    for status, number in Counter(result.status for result in results).items():
        JOB_ROWS.labels(kind, status).inc(number)


async def fail_rows(database: Database, kind: str, job_ref: JobRef, rows: Sequence[JobRow]) -> bool:
    """Marks rows as failed after an unexpected error, which it logs. Must be called in the `except` block.

    Returns:
        False if another task has stored results for some of the rows; then none is changed.
    """
    log.exception("rows %d to %d of job %s failed", rows[0].number, rows[-1].number, job_ref.id)
    try:
        failed = [RowResult(row.number, RowStatus.FAILED, code=InternalError.code) for row in rows]
        await finish(database, kind, job_ref, failed)
    except RowsTakenError:
        return False
    return True


def model_need(model_id: str) -> str:
    """Returns the capability of processes that have loaded the model."""
    return f"model-{model_id}"


def _required_capability(job: Job) -> str | None:
    """Returns the capability for the model of a re-embedding or for the upload folder of an enrolment, or None."""
    if "model_id" in job.request:
        return model_need(job.request["model_id"])
    return job.request.get("uploads")


def _retry_delays() -> Iterator[int]:
    return itertools.chain(RETRY_DELAYS_S, itertools.repeat(RETRY_DELAYS_S[-1]))
