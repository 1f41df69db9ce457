"""SQL of background jobs: creates and reads jobs and changes their state."""

import uuid
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from sqlalchemy import Row, delete, exists, func, insert, select, text, tuple_, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import CollectionNotFound, Conflict, JobNotFound
from service.gallery.jobs.records import UNFINISHED, Job, JobRef, JobState
from service.gallery.storage.paging import PageCursor
from service.gallery.storage.tables import job, job_row

ABANDONED = (
    "no process that can read the job's archive or runs its model has worked on the job for a day; "
    "start such a process and submit the job again"
)


async def create(connection: AsyncConnection, job_ref: JobRef, kind: str, request: Mapping[str, Any]) -> Job:
    """Inserts a job in state WAITING.

    Raises:
        CollectionNotFound: the collection has been deleted.
    """
    statement = (
        insert(job)
        .values(collection_id=job_ref.collection_id, id=job_ref.id, kind=kind, request=dict(request))
        .returning(job)
    )
    try:
        return _job((await connection.execute(statement)).one())
    except IntegrityError as error:
        raise CollectionNotFound("the collection was deleted during the request", pointer="/collection") from error


async def get(connection: AsyncConnection, job_ref: JobRef, lock: bool = False) -> Job:
    """Returns a job. With `lock`, no other transaction can change its state until this transaction ends.

    Raises:
        JobNotFound
    """
    statement = select(job).where(job_ref.of_job)
    row = (await connection.execute(statement.with_for_update() if lock else statement)).one_or_none()
    if row is None:
        raise JobNotFound(f"job {job_ref.id} does not exist")
    return _job(row)


async def page(
    connection: AsyncConnection,
    collection_id: uuid.UUID,
    limit: int,
    after: PageCursor | None = None,
    state: JobState | None = None,
    key_id: uuid.UUID | None = None,
) -> list[Job]:
    """Returns up to `limit` jobs of a collection, newest first.

    Args:
        after: the last job of the previous page.
        state: only jobs in this state.
        key_id: only jobs that were created with this API key.
    """
    statement = select(job).where(job.c.collection_id == collection_id)
    if state is not None:
        statement = statement.where(job.c.state == state)
    if key_id is not None:
        statement = statement.where(job.c.request["actor"]["key_id"].astext == str(key_id))
    if after is not None:
        statement = statement.where(tuple_(job.c.created_at, job.c.id) < (after.created_at, after.id))
    statement = statement.order_by(job.c.created_at.desc(), job.c.id.desc()).limit(limit)
    return [_job(row) for row in await connection.execute(statement)]


async def last(connection: AsyncConnection, collection_id: uuid.UUID, kind: str, model_id: str) -> Job | None:
    """Returns the newest job of a kind whose request names this model; None: there is no such job."""
    statement = (
        select(job)
        .where(job.c.collection_id == collection_id, job.c.kind == kind)
        .where(job.c.request["model_id"].astext == model_id)
        .order_by(job.c.created_at.desc())
        .limit(1)
    )
    row = (await connection.execute(statement)).one_or_none()
    return None if row is None else _job(row)


async def unfinished(connection: AsyncConnection) -> list[Job]:
    """Returns the waiting and running jobs of all collections, oldest first."""
    statement = select(job).where(job.c.state.in_(UNFINISHED)).order_by(job.c.created_at)
    return [_job(row) for row in await connection.execute(statement)]


async def start(connection: AsyncConnection, job_ref: JobRef, total: int) -> None:
    """Sets a locked job, whose rows have been inserted, to RUNNING. `total`: number of its rows."""
    statement = update(job).where(job_ref.of_job)
    await connection.execute(statement.values(state=JobState.RUNNING, total=total, started_at=func.now()))


async def finish_if_done(connection: AsyncConnection, job_ref: JobRef) -> bool:
    """Sets a running job to DONE if every row has a result. Returns True if it did."""
    waiting = exists().where(job_ref.of_rows, job_row.c.status.is_(None))
    statement = update(job).where(job_ref.of_job, job.c.state == JobState.RUNNING, ~waiting)
    result = await connection.execute(statement.values(state=JobState.DONE, finished_at=func.now()))
    return result.rowcount == 1


async def fail(connection: AsyncConnection, job_ref: JobRef, problem: str) -> None:
    """Sets an unfinished job to FAILED. `problem`: the reason, for the client."""
    statement = update(job).where(job_ref.of_job, job.c.state.in_(UNFINISHED))
    await connection.execute(statement.values(state=JobState.FAILED, problem=problem, finished_at=func.now()))


async def cancel(connection: AsyncConnection, job_ref: JobRef) -> Job:
    """Sets an unfinished job to CANCELLED and returns it. Identities that it has enrolled stay enrolled.

    Raises:
        JobNotFound
        Conflict: the job has already finished.
    """
    current = await get(connection, job_ref, lock=True)
    if current.state not in UNFINISHED:
        raise Conflict(f"the job is already {current.state}; only waiting and running jobs can be cancelled")
    statement = (
        update(job).where(job_ref.of_job).values(state=JobState.CANCELLED, finished_at=func.now()).returning(job)
    )
    return _job((await connection.execute(statement)).one())


async def purge(connection: AsyncConnection, keep_days: int) -> int:
    """Deletes the oldest job that finished more than `keep_days` days ago, with its rows. Returns 1 or 0.

    One call deletes one job because a job may have 200,000 rows, and the transaction must stay short.
    """
    age = func.now() - text(f"interval '{keep_days} days'")
    oldest = select(job.c.id).where(job.c.finished_at < age).order_by(job.c.finished_at).limit(1)
    return (await connection.execute(delete(job).where(job.c.id.in_(oldest)))).rowcount


async def fail_abandoned(connection: AsyncConnection) -> None:
    """Sets unfinished jobs without any progress in the last day to FAILED.

    Only processes that can read a job's archive or run its model receive its tasks. If no such process exists any
    more, the job would stay unfinished forever.
    """
    last_result = select(func.max(job_row.c.done_at)).where(
        job_row.c.collection_id == job.c.collection_id, job_row.c.job_id == job.c.id
    )
    age = func.now() - text("interval '1 day'")
    last_change = func.greatest(job.c.created_at, job.c.started_at, last_result.scalar_subquery())
    statement = update(job).where(job.c.state.in_(UNFINISHED), job.c.created_at < age, last_change < age)
    await connection.execute(statement.values(state=JobState.FAILED, problem=ABANDONED, finished_at=func.now()))


def _job(row: Row[Any]) -> Job:
    values = {field.name: row._mapping[field.name] for field in fields(Job)}
    return Job(**values | {"state": JobState(values["state"])})
