"""Grouping: enrols the faces of an archive or a folder without names, then groups the identities of the collection.

Each picture is a row of the job. The last row is the grouping, which waits for the others.
"""

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from psycopg import OperationalError

from service.errors import Conflict, DatabaseUnavailable, RegistryError
from service.gallery.access.audit_entries import Actor
from service.gallery.index import all_centroids
from service.gallery.jobs import rows as job_rows
from service.gallery.jobs.records import Job, JobRef, JobRow, NewRow, RowResult, RowsTakenError, RowStatus
from service.gallery.people import collections, groups
from service.gallery.storage.database import BACKGROUND_S
from service.jobs.batches import ROWS_PER_READ, ROWS_PER_TASK, RowWriter, count
from service.jobs.bulk_enrolment import BulkEnrolment, EnrolmentSession
from service.jobs.sample_enrolment import rejected
from service.jobs.sources.rows import list_pictures
from service.recognition.clustering import Floats, Members, TooManyRoundsError, cluster, members_of
from service.recognition.unknown_faces import EnrolledPicture, UnknownFaces, UnknownPicture

KIND = "grouping"
GROUPS = NewRow("groups", "")
"""The last row of a job."""


@dataclass(frozen=True)
class Grouping:
    """The job kind that groups faces.

    Attributes:
        pictures: opens and reads the pictures of a job that has some.
        max_identities: maximum number of identities of a collection that are grouped.
    """

    pictures: BulkEnrolment
    max_identities: int
    rows_per_task: int = ROWS_PER_TASK

    async def plan_rows(self, job: Job) -> RowWriter:
        pictures = await asyncio.to_thread(self._list, job) if has_pictures(job) else []
        return partial(job_rows.insert_rows, rows=[*pictures, GROUPS])

    async def open(self, job: Job) -> "GroupingSession":
        if not has_pictures(job):
            return GroupingSession(self, job, None)
        source = await asyncio.to_thread(self.pictures.open_source, job)
        return GroupingSession(self, job, UnknownFacesSession(self.pictures, job, source))

    async def finished(self, job_ref: JobRef) -> None:
        await self.pictures.finished(job_ref)

    def _list(self, job: Job) -> list[NewRow]:
        source = self.pictures.open_source(job)
        try:
            return list_pictures(source, self.pictures.max_rows - 1)
        finally:
            source.close()


def has_pictures(job: Job) -> bool:
    """Returns True if the job enrols the pictures of an archive or a folder before it groups."""
    return "uploads" in job.request or "folder" in job.request


class UnknownFacesSession(EnrolmentSession):
    """Enrols every face of pictures, without names."""

    async def enrol_pictures(self, collection: str, readable: Sequence[tuple[JobRow, bytes]]) -> None:
        pictures = [
            UnknownPicture(uuid.uuid5(self.job.id, str(row.number)), row.source, data) for row, data in readable
        ]
        actor = Actor.from_json(self.job.request["actor"])
        results = await UnknownFaces(self.kind.enroller).enrol(collection, pictures, actor)
        await self.finish([_result(row, result) for (row, _), result in zip(readable, results, strict=True)])


@dataclass(frozen=True)
class GroupingSession:
    """Processes rows of one job. `pictures`: None: the job has no pictures."""

    kind: Grouping
    job: Job
    pictures: UnknownFacesSession | None

    @property
    def job_ref(self) -> JobRef:
        return JobRef(self.job.collection_id, self.job.id)

    @property
    def rows_at_once(self) -> int:
        return ROWS_PER_READ

    def close(self) -> None:
        if self.pictures is not None:
            self.pictures.close()

    async def work(self, rows: Sequence[JobRow]) -> bool:
        """Processes rows. Returns False if some must be tried again later."""
        last = (self.job.total or 0) - 1
        pictures = [row for row in rows if row.number < last]
        enrolled = not pictures or self.pictures is None or await self.pictures.work(pictures)
        if rows[-1].number < last:
            return enrolled
        async with self.kind.pictures.database.transaction(collection_id=self.job.collection_id) as connection:
            if await job_rows.waiting_numbers(connection, self.job_ref) != (last, last):
                return False
        await self._group(last)
        return True

    async def _group(self, number: int) -> None:
        ids, embeddings = await self._read()
        try:
            labels = await asyncio.to_thread(cluster, embeddings, self.job.request["threshold"])
        except TooManyRoundsError:
            raise Conflict("the embeddings of the collection cannot be grouped: they form a chain") from None
        members = await asyncio.to_thread(members_of, embeddings, labels)
        detail = f"{members.groups:,} groups of {len(members.rows):,} of {len(ids):,} identities"
        result = RowResult(number, RowStatus.ACCEPTED, detail=detail)
        database = self.kind.pictures.database
        try:
            async with database.transaction(collection_id=self.job.collection_id, timeout_s=BACKGROUND_S) as connection:
                await groups.store(connection, self.job_ref, *_columns(ids, members))
                await job_rows.finish_rows(connection, self.job_ref, [result])
        except RowsTakenError:
            return  # a task that was considered dead is still running and has stored the groups
        count(KIND, [result])

    async def _read(self) -> tuple[list[uuid.UUID], Floats]:
        """Returns the ids and the centroids of all identities of the collection.

        Raises:
            Conflict: the collection is too large, or its model has changed since the request. The threshold of the
                request applies to its model only.
            DatabaseUnavailable
        """
        model_id, limit = self.job.request["of_model"], self.kind.max_identities
        async with self.kind.pictures.database.transaction(collection_id=self.job.collection_id) as connection:
            if (await collections.get_by_id(connection, self.job.collection_id)).model_id != model_id:
                raise Conflict("the collection's model has changed since the request; start the job again")
        try:
            found = await asyncio.to_thread(self._read_model, model_id, limit)
        except OperationalError as error:
            raise DatabaseUnavailable("the database is unreachable or overloaded") from error
        if isinstance(found, int):
            raise Conflict(
                f"the collection has {found:,} identities; at most {limit:,} are grouped (jobs.max_grouped_identities)"
            )
        return found

    def _read_model(self, model_id: str, limit: int) -> tuple[list[uuid.UUID], Floats] | int:
        with self.kind.pictures.database.connect() as connection:
            return all_centroids.read(connection, self.job.collection_id, model_id, limit)


def _columns(ids: Sequence[uuid.UUID], members: Members) -> tuple[list[uuid.UUID], list[int], list[int], list[float]]:
    """Returns the columns of the members' rows: identity, number of the group, position, similarity."""
    identities = [ids[row] for row in members.rows]
    return identities, members.numbers.tolist(), members.positions.tolist(), members.similarities.tolist()


def _result(row: JobRow, result: EnrolledPicture | RegistryError) -> RowResult:
    """Returns the result of a picture. It names an identity only if that is the only one of the picture."""
    if isinstance(result, RegistryError):
        return rejected(row, result)
    if not result.enrolments:
        return rejected(row, result.refused[0])
    is_new = any(image.status == "accepted" for enrolment in result.enrolments for image in enrolment.images)
    faces = len(result.enrolments) + len(result.refused)
    detail = None if faces == 1 else f"{len(result.enrolments)} of {faces} faces are enrolled"
    status = RowStatus.ACCEPTED if is_new else RowStatus.DUPLICATE
    only = result.enrolments[0] if faces == 1 else None
    if only is None:
        return RowResult(row.number, status, detail=detail)
    return RowResult(row.number, status, only.identity.id, only.images[0].template_id)
