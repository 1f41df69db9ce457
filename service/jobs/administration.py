"""Starts, lists and cancels jobs."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import ArchiveUnreadable, InvalidEmbedding, JobNotFound
from service.gallery.access.audit_entries import Action, Actor, Event
from service.gallery.access.audit_trail import AuditTrail
from service.gallery.jobs import jobs, rows
from service.gallery.jobs.records import Job, JobRef, JobRow, JobState, Progress, RowStatus
from service.gallery.people import collections
from service.gallery.storage.database import Database
from service.gallery.storage.paging import PageCursor
from service.jobs.batches import enqueue_preparation
from service.jobs.embedding_enrolment import KIND as EMBEDDINGS
from service.jobs.queue import Queue
from service.jobs.sources.folder import allowed_folder
from service.jobs.uploads import Uploads
from service.recognition.collection_access import in_collection

ROWS_PAGE = 1000


@dataclass(frozen=True, slots=True)
class JobAccess:
    """The jobs that a caller may see: those of a collection, or only those that one API key has started."""

    collection: str
    key_id: uuid.UUID | None = None


@dataclass(frozen=True)
class JobAdministration:
    """The use cases about jobs. `import_root`: None: jobs cannot enrol folders of the server."""

    database: Database
    audit_trail: AuditTrail
    queue: Queue
    uploads: Uploads
    import_root: Path | None

    async def start_with_archive(
        self,
        kind: str,
        collection: str,
        archive: AsyncIterator[bytes],
        size: int | None,
        request: dict[str, Any],
        actor: Actor,
    ) -> Job:
        """Stores a zip archive and starts a job on its pictures.

        Args:
            kind: name of the `JobKind`.
            size: size of the archive in bytes that the client has declared; None: unknown.

        Raises:
            CollectionNotFound, ArchiveUnreadable, StorageFull, RequestTimeout
        """
        async with in_collection(self.database, collection):  # refuses an unknown collection before the upload
            job_id = uuid.uuid4()
        try:
            await self.uploads.receive(job_id, archive, size)
            await asyncio.to_thread(self._check, kind, job_id, request)
            return await self._start(kind, collection, job_id, request | {"uploads": self.uploads.name}, actor)
        except BaseException:
            self.uploads.drop(job_id)
            raise

    def _check(self, kind: str, job_id: uuid.UUID, request: dict[str, Any]) -> None:
        """Raises ArchiveUnreadable if the archive of a job cannot be used."""
        if kind != EMBEDDINGS:
            self.uploads.open(job_id).close()
            return
        archive = self.uploads.open_embeddings(job_id)
        archive.close()
        if archive.dim != request["dim"]:
            raise ArchiveUnreadable(
                f"the embeddings have {archive.dim} dimensions, and those of the model {request['of_model']!r} have "
                f"{request['dim']}"
            )

    async def start_with_folder(
        self, kind: str, collection: str, folder: str, request: dict[str, Any], actor: Actor
    ) -> Job:
        """Starts a job on the pictures of a folder below `import_root`.

        Raises:
            CollectionNotFound, ArchiveUnreadable
        """
        path = await asyncio.to_thread(allowed_folder, self.import_root, folder)
        return await self._start(kind, collection, uuid.uuid4(), request | {"folder": str(path)}, actor)

    async def start(self, kind: str, collection: str, request: dict[str, Any], actor: Actor) -> Job:
        """Starts a job without pictures. Raises CollectionNotFound."""
        return await self._start(kind, collection, uuid.uuid4(), request, actor)

    async def embedding_options(self, collection: str, model_id: str) -> dict[str, Any]:
        """Returns the parameters of an enrolment of embeddings. Raises CollectionNotFound, InvalidEmbedding."""
        async with in_collection(self.database, collection) as (connection, current):
            dim = await collections.dim_of(connection, current.model_id)
            if current.model_id != model_id:
                raise InvalidEmbedding(
                    f"the collection {collection!r} uses the model {current.model_id!r}; embeddings of another model "
                    "cannot be compared with it",
                    pointer="/model_id",
                )
        return {"of_model": model_id, "dim": dim}

    async def page(self, access: JobAccess, limit: int, after: PageCursor | None, state: JobState | None) -> list[Job]:
        """Returns up to `limit` jobs, newest first. Raises CollectionNotFound."""
        async with in_collection(self.database, access.collection) as (connection, current):
            return await jobs.page(connection, current.id, limit, after, state, access.key_id)

    async def read(self, access: JobAccess, job_id: uuid.UUID) -> tuple[Job, Progress]:
        """Returns a job with its progress. Raises CollectionNotFound, JobNotFound."""
        async with in_collection(self.database, access.collection) as (connection, current):
            job_ref = JobRef(current.id, job_id)
            job = await _visible_job(connection, job_ref, access)
            return job, await rows.progress(connection, job_ref)

    async def cancel(self, access: JobAccess, job_id: uuid.UUID, actor: Actor) -> Job:
        """Cancels an unfinished job. Enrolled identities remain. Raises CollectionNotFound, JobNotFound, Conflict."""
        async with in_collection(self.database, access.collection) as (connection, current):
            job_ref = JobRef(current.id, job_id)
            await _visible_job(connection, job_ref, access)
            cancelled = await jobs.cancel(connection, job_ref)
            event = Event(Action.JOB_CANCEL, actor, details={"job": str(job_id)})
            await self.audit_trail.append(connection, current.id, [event])
        self.uploads.drop(job_id)
        return cancelled

    async def rows_page(
        self, access: JobAccess, job_id: uuid.UUID, limit: int, after: int, status: RowStatus | None
    ) -> list[JobRow]:
        """Returns up to `limit` rows of a job whose numbers are higher than `after`. Raises JobNotFound."""
        async with in_collection(self.database, access.collection) as (connection, current):
            job_ref = JobRef(current.id, job_id)
            await _visible_job(connection, job_ref, access)
            return await rows.rows_page(connection, job_ref, limit, after, status)

    async def all_rows(self, access: JobAccess, job_id: uuid.UUID, status: RowStatus | None) -> AsyncIterator[JobRow]:
        """Returns an iterator over all rows of a job.

        The iterator opens one transaction for each page, so that a slow client keeps none open.

        Raises:
            JobNotFound: before the first row.
        """
        first = await self.rows_page(access, job_id, ROWS_PAGE, -1, status)

        async def iterate() -> AsyncIterator[JobRow]:
            page = first
            while page:
                for row in page:
                    yield row
                if len(page) < ROWS_PAGE:
                    return
                page = await self.rows_page(access, job_id, ROWS_PAGE, page[-1].number, status)

        return iterate()

    async def _start(self, kind: str, collection: str, job_id: uuid.UUID, request: dict[str, Any], actor: Actor) -> Job:
        request = request | {"actor": actor.to_json()}
        async with in_collection(self.database, collection) as (connection, current):
            job = await jobs.create(connection, JobRef(current.id, job_id), kind, request)
            await enqueue_preparation(self.queue, connection, job)
            event = Event(Action.JOB_START, actor, details={"job": str(job_id)})
            await self.audit_trail.append(connection, current.id, [event])
            return job


async def _visible_job(connection: AsyncConnection, job_ref: JobRef, access: JobAccess) -> Job:
    """Returns the job if the caller may see it. Raises JobNotFound."""
    job = await jobs.get(connection, job_ref)
    if access.key_id is not None and job.request["actor"]["key_id"] != str(access.key_id):
        raise JobNotFound(f"this API key has not started the job {job_ref.id}")
    return job
