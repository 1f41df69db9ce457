"""Jobs of many rows: cut into portions that several processes work on, each row done once, whatever is killed."""

import asyncio
import itertools
import logging
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import InternalError, JobNotFound, RegistryError, Unavailable
from service.gallery.jobs import jobs
from service.gallery.jobs.jobs import Job, JobRef, JobRow, RowResult, RowsTakenError, RowStatus, State
from service.gallery.storage.database import Database
from service.jobs.queue import BATCH, PREPARE, Queue, arguments_of
from service.telemetry.metrics import JOB_ROWS

BATCH_ROWS = 500
"""Rows of one task of the queue; several processes work on the portions of one job at once."""
ROWS_AT_ONCE = 64
PAUSES_S = (1, 2, 5, 10, 20)
log = logging.getLogger(__name__)


Plan = Callable[[AsyncConnection, JobRef], Awaitable[int]]
"""Writes down a job's rows, in the transaction in which it begins to run; how many. Raises RegistryError."""


class Session(Protocol):
    """One task's hold on a job, with whatever it keeps open for it."""

    async def work(self, rows: Sequence[JobRow]) -> bool:
        """Do rows. Whether the service was up to it; else some of them still wait."""
        ...

    def close(self) -> None: ...


class JobKind(Protocol):
    """What jobs of one kind do."""

    async def plan(self, job: Job) -> Plan:
        """Find out what is to be done. Raises RegistryError: nothing can be."""
        ...

    async def open(self, job: Job) -> Session:
        """Raises RegistryError: the job can't go on."""
        ...

    async def ended(self, place: JobRef) -> None:
        """The job has ended, in whatever way."""
        ...


@dataclass(frozen=True)
class Jobs:
    """The two tasks that every job consists of."""

    database: Database
    queue: Queue
    kinds: Mapping[str, JobKind]

    async def prepare(self, collection_id: str, job_id: str) -> None:
        """Write down the rows and hand them over in portions."""
        place = JobRef(uuid.UUID(collection_id), uuid.UUID(job_id))
        if (job := await self._in_state(place, State.WAITING)) is None:
            return
        kind = self.kinds[job.kind]
        try:
            await self._start(place, await kind.plan(job))
        except Unavailable:
            raise
        except RegistryError as error:
            async with self.database.transaction(collection_id=place.collection_id) as connection:
                await jobs.fail(connection, place, error.detail)
            await kind.ended(place)
            return
        await self._end(job, place)  # where no row is left to do

    async def _start(self, place: JobRef, plan: Plan) -> None:
        async with self.database.transaction(collection_id=place.collection_id) as connection:
            job = await jobs.get(connection, place, lock=True)
            if job.state is not State.WAITING:
                return
            await connection.execute(text("SET LOCAL statement_timeout = 0"))
            total = await plan(connection, place)
            await jobs.start(connection, place, total)
            await enqueue_batches(self.queue, connection, job, 0, total - 1)

    async def portion(self, collection_id: str, job_id: str, first: int, last: int) -> None:
        """Do the rows of a portion that are not done yet; the last portion ends the job."""
        place = JobRef(uuid.UUID(collection_id), uuid.UUID(job_id))
        if (job := await self._in_state(place, State.RUNNING)) is None:
            return
        try:
            session = await self.kinds[job.kind].open(job)
            try:
                await self._work_through(place, session, first, last)
            finally:
                session.close()
        except Unavailable:
            raise
        except RegistryError as error:
            async with self.database.transaction(collection_id=place.collection_id) as connection:
                await jobs.fail(connection, place, error.detail)
        await self._end(job, place)

    async def _work_through(self, place: JobRef, session: Session, first: int, last: int) -> None:
        pauses = _pauses()
        while await self._in_state(place, State.RUNNING) is not None:
            async with self.database.transaction(collection_id=place.collection_id) as connection:
                rows = await jobs.waiting_rows(connection, place, first, last, ROWS_AT_ONCE)
            if not rows:
                return
            if await session.work(rows):
                pauses = _pauses()
            else:
                await asyncio.sleep(next(pauses))

    async def retries_exhausted(self, collection_id: str, job_id: str, **_: int) -> None:
        """A task failed time and again: so does the job."""
        place = JobRef(uuid.UUID(collection_id), uuid.UUID(job_id))
        async with self.database.transaction(collection_id=place.collection_id) as connection:
            await jobs.fail(connection, place, "something went wrong inside the service; its log tells more")

    async def _in_state(self, place: JobRef, state: State) -> Job | None:
        try:
            async with self.database.transaction(collection_id=place.collection_id) as connection:
                job = await jobs.get(connection, place)
        except JobNotFound:  # the collection was deleted
            return None
        return job if job.state is state else None

    async def _end(self, job: Job, place: JobRef) -> None:
        async with self.database.transaction(collection_id=place.collection_id) as connection:
            await jobs.finish_if_done(connection, place)
            try:
                ended = (await jobs.get(connection, place)).state not in jobs.UNFINISHED
            except JobNotFound:
                ended = True
        if ended:
            await self.kinds[job.kind].ended(place)


async def enqueue_preparation(queue: Queue, connection: AsyncConnection, job: Job) -> None:
    """Hand over a job that nobody has looked at yet."""
    await queue.put(connection, PREPARE, [arguments_of(job.collection_id, job.id)], _needs(job))


async def enqueue_batches(queue: Queue, connection: AsyncConnection, job: Job, first: int, last: int) -> None:
    """Hand over a job's rows from `first` to `last`."""
    portions = [
        arguments_of(job.collection_id, job.id, first=start, last=min(start + BATCH_ROWS - 1, last))
        for start in range(first, last + 1, BATCH_ROWS)
    ]
    await queue.put(connection, BATCH, portions, _needs(job))


async def finish(database: Database, kind: str, place: JobRef, results: Sequence[RowResult]) -> None:
    """Say what became of rows, where nothing else is to be stored with it. Raises RowsTakenError."""
    if not results:
        return
    async with database.transaction(collection_id=place.collection_id) as connection:
        await jobs.finish_rows(connection, place, results)
    count(kind, results)


def count(kind: str, results: Sequence[RowResult]) -> None:
    for result in results:
        JOB_ROWS.labels(kind, result.status).inc()


async def fail_rows(database: Database, kind: str, place: JobRef, rows: Sequence[JobRow]) -> bool:
    """After an error that nobody expected: the rows have failed. Whether they are done now."""
    log.exception("rows %d to %d of job %s", rows[0].number, rows[-1].number, place.id)
    try:
        failed = [RowResult(row.number, RowStatus.FAILED, code=InternalError.code) for row in rows]
        await finish(database, kind, place, failed)
    except RowsTakenError:
        return False
    return True


def model_need(model_id: str) -> str:
    """What processes have that run the model."""
    return f"model-{model_id}"


def _needs(job: Job) -> str | None:
    """The folder of uploads that its archive is in, or the model that it embeds by."""
    if "model_id" in job.request:
        return model_need(job.request["model_id"])
    return job.request.get("uploads")


def _pauses() -> Iterator[int]:
    return itertools.chain(PAUSES_S, itertools.repeat(PAUSES_S[-1]))
