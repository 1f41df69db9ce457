"""Bulk enrolment: enrols the pictures of an archive or a folder. Each picture is a row of the job."""

import asyncio
import itertools
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from service.errors import CollectionNotFound, EngineUnavailable, InternalError, RegistryError, Unavailable
from service.gallery.jobs import rows as job_rows
from service.gallery.jobs.records import Job, JobRef, JobRow, NewRow, RowResult, RowsTakenError, RowStatus
from service.gallery.people import collections
from service.gallery.storage.database import Database
from service.inference.engine import FaceChoice, Picture
from service.jobs.batches import ROWS_PER_READ, ROWS_PER_TASK, RowWriter, fail_rows, finish
from service.jobs.sample_enrolment import enrol_samples, rejected
from service.jobs.sources.pictures import PictureSource
from service.jobs.sources.row_checks import as_box
from service.jobs.sources.rows import list_regions, list_rows
from service.names import comparable
from service.recognition.enrolment import Enroller

KIND = "enrolment"
BY_REGIONS = "regions"
"""The people of a job are those of the face regions in the XMP of its pictures, and not of folders."""
PICTURES_PER_REQUEST = 8
"""Maximum number of pictures of one person that are enrolled in one transaction."""
BYTES_PER_REQUEST = 8 * 1024**2
"""Maximum size of the pictures in one request to a worker. A larger picture is sent alone."""
_Item = tuple[JobRow, bytes] | RowResult
"""A row with its picture, or the result of a row whose picture cannot be read."""


@dataclass(frozen=True)
class BulkEnrolment:
    """The job kind that enrols pictures.

    Attributes:
        open_source: opens the pictures of a job.
        drop_source: deletes the archive of the job with this id.
        max_bytes: maximum size of a picture file.
        max_rows: maximum number of rows of a job.
        parallel: number of people that one task enrols concurrently.
        isolated: rows (job id, number) whose pictures were part of a request that crashed workers. Each is sent
            alone, which identifies the picture that causes the crash.
    """

    database: Database
    enroller: Enroller
    open_source: Callable[[Job], PictureSource]
    drop_source: Callable[[uuid.UUID], None]
    max_bytes: int
    max_rows: int
    parallel: int = 4
    isolated: set[tuple[uuid.UUID, int]] = field(default_factory=set)
    rows_per_task: int = ROWS_PER_TASK

    async def plan_rows(self, job: Job) -> RowWriter:
        return partial(job_rows.insert_rows, rows=await asyncio.to_thread(self._list, job))

    async def open(self, job: Job) -> "EnrolmentSession":
        return EnrolmentSession(self, job, await asyncio.to_thread(self.open_source, job))

    async def finished(self, job_ref: JobRef) -> None:
        await asyncio.to_thread(self.drop_source, job_ref.id)

    def _list(self, job: Job) -> list[NewRow]:
        source = self.open_source(job)
        try:
            if job.request.get("people") == BY_REGIONS:
                return list_regions(source, self.max_rows, self.max_bytes)
            return list_rows(source, self.max_rows)
        finally:
            source.close()


@dataclass(frozen=True)
class EnrolmentSession:
    """Enrols rows of one job while its archive or folder is open."""

    kind: BulkEnrolment
    job: Job
    source: PictureSource

    @property
    def job_ref(self) -> JobRef:
        return JobRef(self.job.collection_id, self.job.id)

    @property
    def rows_at_once(self) -> int:
        return ROWS_PER_READ

    def close(self) -> None:
        self.source.close()

    async def work(self, rows: Sequence[JobRow]) -> bool:
        """Enrols rows, several people concurrently. Returns False if some rows must be tried again later."""
        async with self.kind.database.transaction(collection_id=self.job.collection_id) as connection:
            collection = (await collections.get_by_id(connection, self.job.collection_id)).name
        semaphore = asyncio.Semaphore(self.kind.parallel)

        async def enrol(group: Sequence[JobRow]) -> bool:
            async with semaphore:
                return await self._enrol(collection, group)

        groups = _groups(rows, self.kind.isolated)
        # Waits for all groups before it raises, because the caller closes the source.
        outcomes = await asyncio.gather(*(enrol(group) for group in groups), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return all(outcomes)

    async def _enrol(self, collection: str, group: Sequence[JobRow]) -> bool:
        try:
            for items in _split_by_bytes(await asyncio.to_thread(self._read, group)):
                await self.finish([item for item in items if isinstance(item, RowResult)])
                if readable := [item for item in items if not isinstance(item, RowResult)]:
                    await self.enrol_pictures(collection, readable)
        except RowsTakenError:
            pass  # a task that was considered dead is still running and has finished these rows
        except EngineUnavailable as error:
            return "workers_lost" in error.extensions and await self._isolate(group)
        except (Unavailable, CollectionNotFound):
            return False
        except Exception:
            return await fail_rows(self.kind.database, self.job.kind, self.job_ref, group)
        return True

    async def _isolate(self, group: Sequence[JobRow]) -> bool:
        """Handles a group whose pictures crashed workers.

        Marks the rows for separate requests. A picture that was alone in its request is marked as failed.
        """
        keys = {(self.job.id, row.number) for row in group}
        if len(group) > 1 or not keys <= self.kind.isolated:
            self.kind.isolated.update(keys)
            return False
        self.kind.isolated.difference_update(keys)
        detail = "workers crashed repeatedly while they processed this picture"
        await self.finish([RowResult(group[0].number, RowStatus.FAILED, code=InternalError.code, detail=detail)])
        return True

    def _read(self, group: Sequence[JobRow]) -> list[_Item]:
        items: list[_Item] = []
        for row in group:
            try:
                items.append((row, self.source.read(row.source, self.kind.max_bytes)))
            except RegistryError as error:
                items.append(rejected(row, error))
        return items

    async def enrol_pictures(self, collection: str, readable: Sequence[tuple[JobRow, bytes]]) -> None:
        """Enrols pictures of one person and stores the results of their rows."""
        choice, cropped = FaceChoice(self.job.request["face"]), self.job.request["detector"] == "none"
        pictures = [
            Picture(data, choice, cropped=cropped, background=True)
            if row.box is None
            else Picture(data, FaceChoice.BOX, as_box(row.box), background=True)
            for row, data in readable
        ]
        rows = [row for row, _ in readable]
        await enrol_samples(self.kind.enroller, self.kind.database, self.job, collection, rows, pictures)

    async def finish(self, results: Sequence[RowResult]) -> None:
        """Stores the results of rows in a separate transaction. Raises RowsTakenError."""
        await finish(self.kind.database, self.job.kind, self.job_ref, results)


def _groups(rows: Sequence[JobRow], isolated: Collection[tuple[uuid.UUID, int]]) -> Iterator[list[JobRow]]:
    """Splits rows into groups of pictures of the same person, and isolated rows into groups of one."""
    numbers = {number for _, number in isolated}
    for _, rows_of_person in itertools.groupby(rows, key=lambda row: comparable(row.external_id)):
        person = list(rows_of_person)
        yield from ([row] for row in person if row.number in numbers)
        rest = iter([row for row in person if row.number not in numbers])
        while group := list(itertools.islice(rest, PICTURES_PER_REQUEST)):
            yield group


def _split_by_bytes(items: Sequence[_Item]) -> Iterator[list[_Item]]:
    """Splits items into parts that fit into one request to a worker."""
    part: list[_Item] = []
    size = 0
    for item in items:
        item_size = 0 if isinstance(item, RowResult) else len(item[1])
        if part and size + item_size > BYTES_PER_REQUEST:
            yield part
            part, size = [], 0
        part.append(item)
        size += item_size
    if part:
        yield part
