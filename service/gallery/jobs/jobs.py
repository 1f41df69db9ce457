"""Long work that a client handed over: what it is, how far it is, and what became of each row."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Row, Select, and_, bindparam, delete, exists, func, insert, literal, select, text, tuple_, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import CollectionNotFound, Conflict, JobNotFound
from service.gallery.storage.paging import PageCursor
from service.gallery.storage.tables import collection, job, job_row

RATE_SECONDS = 60
"""Over this time the present rate is measured."""
ROWS_AT_ONCE = 1000


class State(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    """The whole could not be worked on; its rows are as they are."""
    CANCELLED = "cancelled"


UNFINISHED = (State.WAITING, State.RUNNING)


class RowStatus(StrEnum):
    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    """The same picture of the same person is stored already."""
    REJECTED = "rejected"
    """The code says why, as it would for a request."""
    FAILED = "failed"
    """The service is at fault."""


class RowsTakenError(Exception):
    """Somebody else has done these rows meanwhile."""


@dataclass(frozen=True, slots=True)
class Job:
    collection_id: uuid.UUID
    id: uuid.UUID
    kind: str
    state: State
    request: dict[str, Any]
    total: int | None
    problem: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class Progress:
    """`counts`: rows by status. `rate`: rows a second over the last minute; None: nothing was done in it."""

    counts: dict[RowStatus, int]
    rate: float | None

    @property
    def done(self) -> int:
        return sum(self.counts.values())


@dataclass(frozen=True, slots=True)
class NewRow:
    """One picture to enrol. With `status` it is done already: nothing can become of it."""

    source: str
    external_id: str
    label: str | None = None
    metadata: dict[str, Any] | None = None
    status: RowStatus | None = None
    code: str | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class JobRow:
    number: int
    source: str
    external_id: str
    label: str | None
    metadata: dict[str, Any] | None
    status: RowStatus | None
    identity_id: uuid.UUID | None
    template_id: uuid.UUID | None
    code: str | None
    detail: str | None
    done_at: datetime | None


@dataclass(frozen=True, slots=True)
class RowResult:
    number: int
    status: RowStatus
    identity_id: uuid.UUID | None = None
    template_id: uuid.UUID | None = None
    code: str | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class JobRef:
    """Which job is meant."""

    collection_id: uuid.UUID
    id: uuid.UUID

    @property
    def of_job(self) -> Any:
        return and_(job.c.collection_id == self.collection_id, job.c.id == self.id)

    @property
    def of_rows(self) -> Any:
        return and_(job_row.c.collection_id == self.collection_id, job_row.c.job_id == self.id)


async def create(connection: AsyncConnection, place: JobRef, kind: str, request: Mapping[str, Any]) -> Job:
    """Write down what is to be done."""
    statement = (
        insert(job)
        .values(collection_id=place.collection_id, id=place.id, kind=kind, request=dict(request))
        .returning(job)
    )
    try:
        return _job((await connection.execute(statement)).one())
    except IntegrityError as error:
        raise CollectionNotFound("the collection was deleted meanwhile", pointer="/collection") from error


async def get(connection: AsyncConnection, place: JobRef, lock: bool = False) -> Job:
    """`lock`: nobody else changes its state until the transaction ends. Raises JobNotFound."""
    statement = select(job).where(place.of_job)
    row = (await connection.execute(statement.with_for_update() if lock else statement)).one_or_none()
    if row is None:
        raise JobNotFound(f"there is no job {place.id} in this collection")
    return _job(row)


async def collection_name(connection: AsyncConnection, collection_id: uuid.UUID) -> str:
    """Raises CollectionNotFound."""
    found = (await connection.execute(select(collection.c.name).where(collection.c.id == collection_id))).scalar()
    if found is None:
        raise CollectionNotFound("the collection was deleted meanwhile")
    return found


async def page(
    connection: AsyncConnection,
    collection_id: uuid.UUID,
    limit: int,
    after: PageCursor | None = None,
    state: State | None = None,
    made_by: uuid.UUID | None = None,
) -> list[Job]:
    """Up to `limit` jobs of a collection, newest first, beginning after a place; those that a key has made."""
    statement = select(job).where(job.c.collection_id == collection_id)
    if state is not None:
        statement = statement.where(job.c.state == state)
    if made_by is not None:
        statement = statement.where(job.c.request["actor"]["key_id"].astext == str(made_by))
    if after is not None:
        statement = statement.where(tuple_(job.c.created_at, job.c.id) < (after.created_at, after.id))
    statement = statement.order_by(job.c.created_at.desc(), job.c.id.desc()).limit(limit)
    return [_job(row) for row in await connection.execute(statement)]


async def progress(connection: AsyncConnection, place: JobRef) -> Progress:
    """How far a job is. Counts its rows: 30 ms for 100,000."""
    statement = (
        select(
            job_row.c.status,
            func.count(),
            func.count().filter(job_row.c.done_at > func.now() - text(f"interval '{RATE_SECONDS} seconds'")),
            func.extract("epoch", func.now() - func.min(job_row.c.done_at)),
        )
        .where(place.of_rows, job_row.c.status.is_not(None))
        .group_by(job_row.c.status)
    )
    rows = (await connection.execute(statement)).all()
    recent = sum(row[2] for row in rows)
    window = min(RATE_SECONDS, max((float(row[3]) for row in rows), default=0))
    rate = recent / max(window, 1) if recent else None
    return Progress({RowStatus(row[0]): row[1] for row in rows}, rate)


async def write_rows(connection: AsyncConnection, place: JobRef, rows: Sequence[NewRow]) -> int:
    """Write down a locked job's rows, numbered from 0; how many."""
    for first in range(0, len(rows), ROWS_AT_ONCE):
        values = [
            {
                "collection_id": place.collection_id,
                "job_id": place.id,
                "number": number,
                **{field.name: getattr(row, field.name) for field in fields(NewRow)},
            }
            for number, row in enumerate(rows[first : first + ROWS_AT_ONCE], first)
        ]
        await connection.execute(insert(job_row), values)
    ended = update(job_row).where(place.of_rows, job_row.c.status.is_not(None))
    await connection.execute(ended.values(done_at=func.now()))
    return len(rows)


async def select_rows(connection: AsyncConnection, place: JobRef, chosen: Select[tuple[int, str, str]]) -> int:
    """Write down what a query gives, as (number, source, external_id); how many. Nothing leaves the database."""
    row = chosen.subquery()
    values = select(literal(place.collection_id), literal(place.id), *row.c)
    columns = [job_row.c.collection_id, job_row.c.job_id, job_row.c.number, job_row.c.source, job_row.c.external_id]
    counted = insert(job_row).from_select(columns, values).execution_options(preserve_rowcount=True)
    return (await connection.execute(counted)).rowcount


async def start(connection: AsyncConnection, place: JobRef, total: int) -> None:
    """A locked job whose rows are written down runs."""
    statement = update(job).where(place.of_job)
    await connection.execute(statement.values(state=State.RUNNING, total=total, started_at=func.now()))


async def waiting_rows(
    connection: AsyncConnection, place: JobRef, first: int, last: int, at_most: int
) -> list[JobRow]:
    """The next rows from `first` to `last` that are not done."""
    statement = (
        _rows(place)
        .where(job_row.c.number.between(first, last), job_row.c.status.is_(None))
        .order_by(job_row.c.number)
        .limit(at_most)
    )
    return [_row(row) for row in await connection.execute(statement)]


async def rows_page(
    connection: AsyncConnection, place: JobRef, limit: int, after: int = -1, status: RowStatus | None = None
) -> list[JobRow]:
    """Up to `limit` rows by number, beginning after one; those with that status."""
    statement = _rows(place).where(job_row.c.number > after).order_by(job_row.c.number).limit(limit)
    if status is not None:
        statement = statement.where(job_row.c.status == status)
    return [_row(row) for row in await connection.execute(statement)]


async def finish_rows(connection: AsyncConnection, place: JobRef, results: Sequence[RowResult]) -> None:
    """Say what became of rows that are not done.

    Raises:
        RowsTakenError: one of them is; the caller's transaction must not be committed.
    """
    statement = (
        update(job_row)
        .where(place.of_rows, job_row.c.number == bindparam("row_number"), job_row.c.status.is_(None))
        .values(done_at=func.now())
    )
    for result in results:
        values = {field.name: getattr(result, field.name) for field in fields(RowResult) if field.name != "number"}
        done = await connection.execute(statement.values(**values), {"row_number": result.number})
        if done.rowcount != 1:
            raise RowsTakenError


async def finish_if_done(connection: AsyncConnection, place: JobRef) -> bool:
    """Whether no row waits any more; the job is done then."""
    waiting = exists().where(place.of_rows, job_row.c.status.is_(None))
    statement = update(job).where(place.of_job, job.c.state == State.RUNNING, ~waiting)
    done = await connection.execute(statement.values(state=State.DONE, finished_at=func.now()))
    return done.rowcount == 1


async def fail(connection: AsyncConnection, place: JobRef, problem: str) -> None:
    """An unfinished job can't go on."""
    statement = update(job).where(place.of_job, job.c.state.in_(UNFINISHED))
    await connection.execute(statement.values(state=State.FAILED, problem=problem, finished_at=func.now()))


async def cancel(connection: AsyncConnection, place: JobRef) -> Job:
    """Let an unfinished job end; what it has enrolled stays. Raises JobNotFound, Conflict."""
    found = await get(connection, place, lock=True)
    if found.state not in UNFINISHED:
        raise Conflict(f"the job is {found.state} already")
    statement = update(job).where(place.of_job).values(state=State.CANCELLED, finished_at=func.now()).returning(job)
    return _job((await connection.execute(statement)).one())


async def last(connection: AsyncConnection, collection_id: uuid.UUID, kind: str, model_id: str) -> Job | None:
    """The newest job of a kind that is about a model."""
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
    """Of all collections, oldest first."""
    statement = select(job).where(job.c.state.in_(UNFINISHED)).order_by(job.c.created_at)
    return [_job(row) for row in await connection.execute(statement)]


async def waiting_numbers(connection: AsyncConnection, place: JobRef) -> tuple[int, int] | None:
    """The first and the last row that are not done."""
    statement = select(func.min(job_row.c.number), func.max(job_row.c.number)).where(
        place.of_rows, job_row.c.status.is_(None)
    )
    first, last = (await connection.execute(statement)).one()
    return None if first is None else (first, last)


async def purge(connection: AsyncConnection, keep_days: int) -> int:
    """Forget one job that ended longer ago, with its rows, which may be many; whether there was one."""
    age = func.now() - text(f"interval '{keep_days} days'")
    oldest = select(job.c.id).where(job.c.finished_at < age).order_by(job.c.finished_at).limit(1)
    return (await connection.execute(delete(job).where(job.c.id.in_(oldest)))).rowcount


async def fail_forgotten(connection: AsyncConnection) -> None:
    """End unfinished jobs of which nothing was done for a day: nobody is there any more who has what they take."""
    last = select(func.max(job_row.c.done_at)).where(
        job_row.c.collection_id == job.c.collection_id, job_row.c.job_id == job.c.id
    )
    age = func.now() - text("interval '1 day'")
    moved = func.greatest(job.c.created_at, job.c.started_at, last.scalar_subquery())
    words = "nobody who can read its archive, or runs its model, has worked on it for a day; send it again"
    statement = update(job).where(job.c.state.in_(UNFINISHED), job.c.created_at < age, moved < age)
    await connection.execute(statement.values(state=State.FAILED, problem=words, finished_at=func.now()))


async def delete_person_rows(
    connection: AsyncConnection, collection_id: uuid.UUID, identity_id: uuid.UUID, external_id: str
) -> int:
    """Delete what rows of jobs say of a person; how many did."""
    forgotten = 0
    for theirs in (job_row.c.external_id == external_id, job_row.c.identity_id == identity_id):  # each has its index
        statement = delete(job_row).where(job_row.c.collection_id == collection_id, theirs)
        forgotten += (await connection.execute(statement)).rowcount
    return forgotten


def _rows(place: JobRef) -> Select[Any]:
    return select(*(job_row.c[field.name] for field in fields(JobRow))).where(place.of_rows)


def _row(row: Row[Any]) -> JobRow:
    values = dict(row._mapping)
    status = values.pop("status")
    return JobRow(**values, status=None if status is None else RowStatus(status))


def _job(row: Row[Any]) -> Job:
    values = dict(row._mapping)
    return Job(**values | {"state": State(values["state"])})
