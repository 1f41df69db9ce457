"""Bulk enrolment: thousands of pictures of people, from an archive or a folder."""

import asyncio
import itertools
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import CollectionNotFound, EngineUnavailable, InternalError, RegistryError, Unavailable
from service.gallery.access.audit import Actor
from service.gallery.jobs import jobs
from service.gallery.jobs.jobs import Job, JobRef, JobRow, NewRow, RowResult, RowsTakenError, RowStatus
from service.gallery.storage.database import Database
from service.inference.engine import FaceChoice, Picture
from service.jobs.batches import Plan, count, fail_rows, finish
from service.jobs.sources import PictureSource, rows_of
from service.recognition.enrolment import Enroller, Enrolment, EnrolmentRequest, ImageOutcome

KIND = "enrolment"
PICTURES_TOGETHER = 8
"""Pictures of one person that are enrolled in one transaction."""
BYTES_TOGETHER = 8 * 1024**2
"""A larger picture is sent by itself."""


@dataclass(frozen=True)
class BulkEnrolment:
    """Jobs that enrol.

    Attributes:
        open_source: opens the pictures of a job, given its id and request.
        drop_source: forgets them, once the job has ended.
        parallel: people who are enrolled at once.
    """

    database: Database
    enroller: Enroller
    open_source: Callable[[Job], PictureSource]
    drop_source: Callable[[uuid.UUID], None]
    max_bytes: int
    parallel: int = 4
    alone: set[tuple[uuid.UUID, int]] = field(default_factory=set)
    """Rows (job, number) over which workers broke off: each is tried by itself."""

    async def plan(self, job: Job) -> Plan:
        return partial(jobs.write_rows, rows=await asyncio.to_thread(self._list, job))

    async def open(self, job: Job) -> "EnrolmentSession":
        return EnrolmentSession(self, job, await asyncio.to_thread(self.open_source, job))

    async def ended(self, place: JobRef) -> None:
        await asyncio.to_thread(self.drop_source, place.id)

    def _list(self, job: Job) -> list[NewRow]:
        source = self.open_source(job)
        try:
            return rows_of(source)
        finally:
            source.close()


@dataclass(frozen=True)
class EnrolmentSession:
    """One task's hold on a bulk enrolment, with its pictures open."""

    bulk: BulkEnrolment
    job: Job
    source: PictureSource

    @property
    def place(self) -> JobRef:
        return JobRef(self.job.collection_id, self.job.id)

    def close(self) -> None:
        self.source.close()

    async def work(self, rows: Sequence[JobRow]) -> bool:
        """Several people at once."""
        async with self.bulk.database.transaction(collection_id=self.job.collection_id) as connection:
            collection = await jobs.collection_name(connection, self.job.collection_id)
        room = asyncio.Semaphore(self.bulk.parallel)

        async def enrol(group: Sequence[JobRow]) -> bool:
            async with room:
                return await self._enrol(collection, group)

        groups = _groups(rows, self.bulk.alone)
        outcomes = await asyncio.gather(*(enrol(group) for group in groups), return_exceptions=True)
        for outcome in outcomes:  # only once all are done: the source is closed then
            if isinstance(outcome, BaseException):
                raise outcome
        return all(outcomes)

    async def _enrol(self, collection: str, group: Sequence[JobRow]) -> bool:
        try:
            for some in _by_bytes(await asyncio.to_thread(self._read, group)):
                await self._finish([item for item in some if isinstance(item, RowResult)])
                if readable := [item for item in some if not isinstance(item, RowResult)]:
                    await self._enrol_readable(collection, readable)
        except RowsTakenError:
            pass  # a worker that was taken for dead was not; it has done them
        except EngineUnavailable as error:
            return "workers_lost" in error.extensions and await self._isolate(group)
        except (Unavailable, CollectionNotFound):
            return False
        except Exception:
            return await fail_rows(self.bulk.database, KIND, self.place, group)
        return True

    async def _isolate(self, group: Sequence[JobRow]) -> bool:
        """Workers broke off over these pictures: each is tried by itself, and one that does it again has failed."""
        key = {(self.job.id, row.number) for row in group}
        if len(group) > 1 or not key <= self.bulk.alone:
            self.bulk.alone.update(key)
            return False
        self.bulk.alone.difference_update(key)
        detail = "the workers broke off over this picture, time and again"
        await self._finish([RowResult(group[0].number, RowStatus.FAILED, code=InternalError.code, detail=detail)])
        return True

    def _read(self, group: Sequence[JobRow]) -> list[tuple[JobRow, bytes] | RowResult]:
        """The pictures; of those that can't be read, what becomes of them."""
        items: list[tuple[JobRow, bytes] | RowResult] = []
        for row in group:
            try:
                items.append((row, self.source.read(row.source, self.bulk.max_bytes)))
            except RegistryError as error:
                items.append(_rejected(row, error))
        return items

    async def _enrol_readable(self, collection: str, readable: Sequence[tuple[JobRow, bytes]]) -> None:
        job = self.job
        rows = [row for row, _ in readable]

        async def record(connection: AsyncConnection, enrolment: Enrolment) -> None:
            results = [
                _result(row, outcome, enrolment, job.request.get("named", False))
                for row, outcome in zip(rows, enrolment.images, strict=True)
            ]
            await jobs.finish_rows(connection, self.place, results)
            count(KIND, results)

        choice, cropped = FaceChoice(job.request["face"]), job.request["detector"] == "none"
        request = EnrolmentRequest(
            collection,
            rows[0].external_id,
            next((row.label for row in rows if row.label is not None), None),
            next((row.metadata for row in rows if row.metadata is not None), None),
            [Picture(data, choice, cropped=cropped, background=True) for _, data in readable],
            force=job.request["force"],
            named=False,  # what is kept here must not outlast the people it names
            actor=Actor.from_json(job.request["actor"]),
            record=record,
        )
        try:
            await self.bulk.enroller.enrol(request)
        except (Unavailable, CollectionNotFound):
            raise
        except RegistryError as error:
            await self._finish(_refused(rows, error))

    async def _finish(self, results: Sequence[RowResult]) -> None:
        await finish(self.bulk.database, KIND, self.place, results)


def _groups(rows: Sequence[JobRow], alone: Collection[tuple[uuid.UUID, int]]) -> Iterator[list[JobRow]]:
    """Pictures of one person that are enrolled together."""
    numbers = {number for _, number in alone}
    for _, rows_of_person in itertools.groupby(rows, key=lambda row: row.external_id):
        person = list(rows_of_person)
        yield from ([row] for row in person if row.number in numbers)
        rest = iter([row for row in person if row.number not in numbers])
        while group := list(itertools.islice(rest, PICTURES_TOGETHER)):
            yield group


def _by_bytes(items: Sequence[tuple[JobRow, bytes] | RowResult]) -> Iterator[list[tuple[JobRow, bytes] | RowResult]]:
    """Portions that fit into one request to a worker."""
    portion: list[tuple[JobRow, bytes] | RowResult] = []
    size = 0
    for item in items:
        more = 0 if isinstance(item, RowResult) else len(item[1])
        if portion and size + more > BYTES_TOGETHER:
            yield portion
            portion, size = [], 0
        portion.append(item)
        size += more
    if portion:
        yield portion


def _result(row: JobRow, outcome: ImageOutcome, enrolment: Enrolment, named: bool) -> RowResult:
    """`named`: whether who asked may learn how like the person a picture is."""
    if outcome.error is not None:
        return _rejected(row, outcome.error)
    detail = "outlier: it looks unlike the person's other pictures" if outcome.outlier and named else None
    return RowResult(row.number, RowStatus(outcome.status), enrolment.identity.id, outcome.template_id, detail=detail)


def _refused(rows: Sequence[JobRow], error: RegistryError) -> list[RowResult]:
    """Where none of several pictures was accepted, each has a reason of its own."""
    images = error.extensions.get("images")
    if images is None or len(images) != len(rows):
        return [_rejected(row, error) for row in rows]
    return [
        RowResult(row.number, RowStatus.REJECTED, code=image["code"], detail=image["detail"])
        for row, image in zip(rows, images, strict=True)
    ]


def _rejected(row: JobRow, error: RegistryError) -> RowResult:
    return RowResult(row.number, RowStatus.REJECTED, code=error.code, detail=error.detail)
