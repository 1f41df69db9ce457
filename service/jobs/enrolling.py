"""Bulk enrolment: thousands of pictures, each row done once, whatever is killed meanwhile."""

import asyncio
import itertools
import logging
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import CollectionNotFound, EngineUnavailable, InternalError, JobNotFound, RegistryError, Unavailable
from service.gallery import jobs
from service.gallery.audit import Actor
from service.gallery.database import Database
from service.gallery.jobs import Job, JobPlace, JobRow, RowResult, RowsTakenError, RowStatus, State
from service.inference.engine import FaceChoice, ImageInput
from service.jobs.queue import PORTION, PREPARE, Queue, arguments_of
from service.jobs.sources import PictureSource, rows_of
from service.metrics import JOB_ROWS
from service.recognition.enrolment import Enroller, Enrolment, EnrolmentRequest, ImageOutcome

KIND = "enrolment"
PORTION_ROWS = 500
"""Rows of one task of the queue; several processes work on the portions of one job at once."""
ROWS_AT_ONCE = 64
PICTURES_TOGETHER = 8
"""Pictures of one person that are enrolled in one transaction."""
BYTES_TOGETHER = 8 * 1024**2
"""A larger picture is sent by itself."""
PAUSES_S = (1, 2, 5, 10, 20)
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BulkEnrolment:
    """The two tasks of a bulk enrolment.

    Attributes:
        open_source: opens the pictures of a job, given its id and request.
        drop_source: forgets them, once the job has ended.
        parallel: people who are enrolled at once.
    """

    database: Database
    enroller: Enroller
    queue: Queue
    open_source: Callable[[Job], PictureSource]
    drop_source: Callable[[uuid.UUID], None]
    max_bytes: int
    parallel: int = 4
    alone: set[tuple[uuid.UUID, int]] = field(default_factory=set)
    """Rows (job, number) over which workers broke off: each is tried by itself."""

    async def prepare(self, collection_id: str, job_id: str) -> None:
        """Write down the rows and hand them over in portions."""
        place = JobPlace(uuid.UUID(collection_id), uuid.UUID(job_id))
        if (job := await self._in_state(place, State.WAITING)) is None:
            return
        try:
            rows = await asyncio.to_thread(self._list, job)
        except RegistryError as error:
            async with self.database.transaction(within=place.collection_id) as connection:
                await jobs.fail(connection, place, error.detail)
            self.drop_source(place.id)
            return
        async with self.database.transaction(within=place.collection_id) as connection:
            job = await jobs.get(connection, place, lock=True)
            if job.state is not State.WAITING:
                return
            await jobs.fill(connection, place, rows)
            await put_portions(self.queue, connection, job, 0, len(rows) - 1)
            await jobs.finish_if_done(connection, place)  # where no row can be enrolled

    async def portion(self, collection_id: str, job_id: str, first: int, last: int) -> None:
        """Enrol the rows of a portion that are not done yet; the last portion ends the job."""
        place = JobPlace(uuid.UUID(collection_id), uuid.UUID(job_id))
        pauses = _pauses()
        source: PictureSource | None = None
        try:
            while (job := await self._in_state(place, State.RUNNING)) is not None:
                async with self.database.transaction(within=place.collection_id) as connection:
                    name = await jobs.collection_name(connection, place.collection_id)
                    rows = await jobs.waiting_rows(connection, place, first, last, ROWS_AT_ONCE)
                if not rows:
                    break
                if source is None:
                    source = await asyncio.to_thread(self.open_source, job)
                if await self._enrol_all(name, job, place, rows, source):
                    pauses = _pauses()
                else:
                    await asyncio.sleep(next(pauses))
        except RegistryError as error:
            if isinstance(error, Unavailable):
                raise
            async with self.database.transaction(within=place.collection_id) as connection:
                await jobs.fail(connection, place, error.detail)
        finally:
            if source is not None:
                source.close()
        await self._end(place)

    async def gave_up(self, collection_id: str, job_id: str, **_: int) -> None:
        """A task failed time and again: so does the job."""
        place = JobPlace(uuid.UUID(collection_id), uuid.UUID(job_id))
        async with self.database.transaction(within=place.collection_id) as connection:
            await jobs.fail(connection, place, "something went wrong inside the service; its log tells more")

    def _list(self, job: Job) -> list[jobs.NewRow]:
        source = self.open_source(job)
        try:
            return rows_of(source)
        finally:
            source.close()

    async def _in_state(self, place: JobPlace, state: State) -> Job | None:
        try:
            async with self.database.transaction(within=place.collection_id) as connection:
                job = await jobs.get(connection, place)
        except JobNotFound:  # the collection was deleted
            return None
        return job if job.state is state else None

    async def _end(self, place: JobPlace) -> None:
        async with self.database.transaction(within=place.collection_id) as connection:
            await jobs.finish_if_done(connection, place)
            try:
                ended = (await jobs.get(connection, place)).state not in jobs.UNFINISHED
            except JobNotFound:
                ended = True
        if ended:
            await asyncio.to_thread(self.drop_source, place.id)

    async def _enrol_all(
        self, collection: str, job: Job, place: JobPlace, rows: Sequence[JobRow], source: PictureSource
    ) -> bool:
        """Several people at once. Whether the service was up to it; else some rows still wait."""
        room = asyncio.Semaphore(self.parallel)

        async def enrol(group: Sequence[JobRow]) -> bool:
            async with room:
                return await self._enrol(collection, job, place, group, source)

        outcomes = await asyncio.gather(*(enrol(group) for group in _groups(rows, self.alone)), return_exceptions=True)
        for outcome in outcomes:  # only once all are done: the source is closed then
            if isinstance(outcome, BaseException):
                raise outcome
        return all(outcomes)

    async def _enrol(
        self, collection: str, job: Job, place: JobPlace, group: Sequence[JobRow], source: PictureSource
    ) -> bool:
        try:
            for some in _by_bytes(await asyncio.to_thread(self._read, group, source)):
                await self._finish(place, [item for item in some if isinstance(item, RowResult)])
                if readable := [item for item in some if not isinstance(item, RowResult)]:
                    await self._enrol_readable(collection, job, place, readable)
        except RowsTakenError:
            pass  # a worker that was taken for dead was not; it has done them
        except EngineUnavailable as error:
            return "workers_lost" in error.extensions and await self._isolate(place, group)
        except (Unavailable, CollectionNotFound):
            return False
        except Exception:
            log.exception("rows %d to %d of job %s", group[0].number, group[-1].number, place.id)
            waiting = [RowResult(row.number, RowStatus.FAILED, code=InternalError.code) for row in group]
            try:
                await self._finish(place, waiting)
            except RowsTakenError:
                return False
        return True

    async def _isolate(self, place: JobPlace, group: Sequence[JobRow]) -> bool:
        """Workers broke off over these pictures: each is tried by itself, and one that does it again has failed."""
        key = {(place.id, row.number) for row in group}
        if len(group) > 1 or not key <= self.alone:
            self.alone.update(key)
            return False
        self.alone.difference_update(key)
        detail = "the workers broke off over this picture, time and again"
        await self._finish(
            place, [RowResult(group[0].number, RowStatus.FAILED, code=InternalError.code, detail=detail)]
        )
        return True

    def _read(self, group: Sequence[JobRow], source: PictureSource) -> list[tuple[JobRow, bytes] | RowResult]:
        """The pictures; of those that can't be read, what becomes of them."""
        items: list[tuple[JobRow, bytes] | RowResult] = []
        for row in group:
            try:
                items.append((row, source.read(row.source, self.max_bytes)))
            except RegistryError as error:
                items.append(_rejected(row, error))
        return items

    async def _enrol_readable(
        self, collection: str, job: Job, place: JobPlace, readable: Sequence[tuple[JobRow, bytes]]
    ) -> None:
        rows = [row for row, _ in readable]

        async def record(connection: AsyncConnection, enrolment: Enrolment) -> None:
            results = [_result(row, outcome, enrolment) for row, outcome in zip(rows, enrolment.images, strict=True)]
            await jobs.finish_rows(connection, place, results)
            for result in results:
                JOB_ROWS.labels(KIND, result.status).inc()

        choice, cropped = FaceChoice(job.request["face"]), job.request["detector"] == "none"
        request = EnrolmentRequest(
            collection,
            rows[0].external_id,
            next((row.label for row in rows if row.label is not None), None),
            next((row.metadata for row in rows if row.metadata is not None), None),
            [ImageInput(data, choice, cropped=cropped) for _, data in readable],
            force=job.request["force"],
            named=False,  # what is kept here must not outlast the people it names
            actor=Actor.from_json(job.request["actor"]),
            record=record,
        )
        try:
            await self.enroller.enrol(request)
        except (Unavailable, CollectionNotFound):
            raise
        except RegistryError as error:
            await self._finish(place, _refused(rows, error))

    async def _finish(self, place: JobPlace, results: Sequence[RowResult]) -> None:
        if not results:
            return
        async with self.database.transaction(within=place.collection_id) as connection:
            await jobs.finish_rows(connection, place, results)
        for result in results:
            JOB_ROWS.labels(KIND, result.status).inc()


async def put_preparation(queue: Queue, connection: AsyncConnection, job: Job) -> None:
    """Hand over a job that nobody has looked at yet."""
    await queue.put(connection, PREPARE, [arguments_of(job.collection_id, job.id)], _folder(job))


async def put_portions(queue: Queue, connection: AsyncConnection, job: Job, first: int, last: int) -> None:
    """Hand over a job's rows from `first` to `last`."""
    portions = [
        arguments_of(job.collection_id, job.id, first=start, last=min(start + PORTION_ROWS - 1, last))
        for start in range(first, last + 1, PORTION_ROWS)
    ]
    await queue.put(connection, PORTION, portions, _folder(job))


def _folder(job: Job) -> str | None:
    """Which folder of uploads its archive is in."""
    return job.request.get("uploads")


def _pauses() -> Iterator[int]:
    return itertools.chain(PAUSES_S, itertools.repeat(PAUSES_S[-1]))


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


def _result(row: JobRow, outcome: ImageOutcome, enrolment: Enrolment) -> RowResult:
    if outcome.error is not None:
        return _rejected(row, outcome.error)
    return RowResult(row.number, RowStatus(outcome.status), enrolment.identity.id, outcome.template_id)


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
