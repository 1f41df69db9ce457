"""Periodic maintenance, which one process at a time performs for all processes on a database."""

import asyncio
import logging
import uuid
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import RegistryError
from service.gallery.access.audit_entries import SERVICE, Action, Event
from service.gallery.access.audit_trail import AuditTrail
from service.gallery.index import centroids, snapshots
from service.gallery.jobs import jobs
from service.gallery.jobs import rows as job_rows
from service.gallery.jobs.records import Job, JobRef, JobState
from service.gallery.people import (
    collection_deletion,
    collections,
    erasure,
    idempotency,
    model_coverage,
    model_migration,
)
from service.gallery.people.collections import Collection
from service.gallery.storage.database import BACKGROUND_S, Database
from service.jobs.batches import enqueue_batches, enqueue_preparation
from service.jobs.queue import QUEUE, Queue
from service.jobs.reembedding import KIND
from service.jobs.uploads import Uploads

log = logging.getLogger(__name__)
ORPHAN_AGE_S = 3600
"""Age in seconds from which an archive without a job is deleted: the process that received it was killed."""


@dataclass(frozen=True)
class Maintenance:
    """Deletes expired data, resumes lost jobs and activates migrated models.

    Attributes:
        keep_days: days for which finished jobs are kept.
    """

    database: Database
    queue: Queue
    uploads: Uploads
    audit_trail: AuditTrail
    keep_days: int

    async def __call__(self) -> None:
        """Performs every step. A step that fails is logged and does not prevent the others."""
        for step in (
            self._erase_expired,
            self._delete_responses,
            self._delete_jobs,
            self._resume_jobs,
            self._fill_codes,
            self._delete_changes,
            self._activate_models,
            self._delete_collections,
        ):
            try:
                await step()
            except Exception as error:
                name = step.__name__.strip("_")
                log.warning("maintenance: %s failed: %s", name, _first_line(error))

    async def _delete_responses(self) -> None:
        """Deletes expired responses of idempotent requests."""
        async with self.database.transaction(all_collections=True, timeout_s=BACKGROUND_S) as connection:
            await idempotency.purge(connection)

    async def _delete_jobs(self) -> None:
        """Fails abandoned jobs, and deletes finished jobs that are older than `keep_days`."""
        async with self.database.transaction(all_collections=True, timeout_s=BACKGROUND_S) as connection:
            await jobs.fail_abandoned(connection)
        deleted = 1
        while deleted:
            async with self.database.transaction(all_collections=True, timeout_s=BACKGROUND_S) as connection:
                deleted = await jobs.purge(connection, self.keep_days)

    async def _fill_codes(self) -> None:
        """Computes missing binary codes of centroids, for example of those that an older release stored."""
        filled = 1
        while filled:
            async with self.database.transaction(all_collections=True, timeout_s=BACKGROUND_S) as connection:
                filled = await centroids.fill_codes(connection)

    async def _delete_changes(self) -> None:
        """Deletes old records of changed centroids."""
        async with self.database.transaction(all_collections=True, timeout_s=BACKGROUND_S) as connection:
            await snapshots.delete_old_changes(connection)

    async def _activate_models(self) -> None:
        """Activates secondary models that have `auto_activate` set and cover every identity."""
        async with self.database.transaction(all_collections=True, timeout_s=BACKGROUND_S) as connection:
            names = await model_migration.awaiting_activation(connection)
        for name in names:
            try:
                await self._activate(name)
            except RegistryError as error:
                log.info("the secondary model of collection %r is not activated yet: %s", name, error.detail)

    async def _activate(self, name: str) -> None:
        async with self.database.transaction(all_collections=True, timeout_s=BACKGROUND_S) as connection:
            collection = await collections.get(connection, name)
            if not await self._is_ready(connection, collection):
                return
        # Citus permits no change of a collection in a transaction that has read several of them.
        async with self.database.transaction(collection_id=collection.id, timeout_s=BACKGROUND_S) as connection:
            locked = await collections.get(connection, name, lock="update")
            if not locked.auto_activate or locked.models != collection.models:
                return  # a request has changed the models since
            changed = await model_migration.activate(connection, locked)
            details = {"model_id": changed.model_id, "before": changed.secondary_model_id}
            await self.audit_trail.append(
                connection, changed.id, [Event(Action.MODEL_ACTIVATE, SERVICE, details=details)]
            )

    async def _is_ready(self, connection: AsyncConnection, collection: Collection) -> bool:
        """Returns True if coverage is complete and no re-embedding is running."""
        if any(job.collection_id == collection.id and job.kind == KIND for job in await jobs.unfinished(connection)):
            return False
        return (await model_coverage.coverage(connection, collection)).complete

    async def _erase_expired(self) -> None:
        """Erases identities whose `retain_until` has passed. One that cannot be erased does not prevent the others."""
        failed: set[uuid.UUID] = set()
        while True:
            async with self.database.transaction(all_collections=True, timeout_s=BACKGROUND_S) as connection:
                expired = await erasure.expired(connection, failed)
            if not expired:
                return
            for collection_id, identity_id in expired:
                try:
                    await self._erase(collection_id, identity_id)
                except Exception as error:
                    failed.add(identity_id)
                    log.error("the expired identity %s cannot be erased: %s", identity_id, _first_line(error))

    async def _erase(self, collection_id: uuid.UUID, identity_id: uuid.UUID) -> None:
        async with self.database.transaction(all_collections=True, timeout_s=BACKGROUND_S) as connection:
            await erasure.expire(connection, self.audit_trail, collection_id, identity_id)

    async def _delete_collections(self) -> None:
        """Deletes the rows of deleted collections."""
        async with self.database.transaction(all_collections=True) as connection:
            pending = await collection_deletion.pending(connection)
        for collection_id in pending:
            deleted = await collection_deletion.delete_rows(self.database, collection_id)
            log.info("collection %s is deleted, with %d identities in the background", collection_id, deleted)

    async def _resume_jobs(self) -> None:
        """Enqueues tasks of unfinished jobs that have none. Backups contain the jobs, but not the queue."""
        async with self.database.transaction(all_collections=True, timeout_s=BACKGROUND_S) as connection:
            queued = await _queued(connection)
            for job in await jobs.unfinished(connection):
                if job.id not in queued:
                    await self._resume(connection, job)

    async def sweep(self) -> None:
        """Deletes archives that no unfinished job needs. Every process does this for its own upload folder."""
        async with self.database.transaction(all_collections=True, timeout_s=BACKGROUND_S) as connection:
            unfinished = await jobs.unfinished(connection)
        await asyncio.to_thread(self.uploads.sweep, {job.id for job in unfinished}, ORPHAN_AGE_S)

    async def _resume(self, connection: AsyncConnection, job: Job) -> None:
        job_ref = JobRef(job.collection_id, job.id)
        if job.state is JobState.WAITING:
            await enqueue_preparation(self.queue, connection, job)
        elif (numbers := await job_rows.waiting_numbers(connection, job_ref)) is not None:
            await enqueue_batches(self.queue, connection, job, *numbers)
        else:
            await jobs.finish_if_done(connection, job_ref)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


async def _queued(connection: AsyncConnection) -> set[uuid.UUID]:
    """Returns the ids of jobs with a waiting or running task."""
    query = text(
        "SELECT DISTINCT args->>'job_id' FROM procrastinate.procrastinate_jobs "
        "WHERE queue_name LIKE :queue || '%' AND status IN ('todo', 'doing') AND args ? 'job_id'"
    )
    return {uuid.UUID(row[0]) for row in await connection.execute(query, {"queue": QUEUE})}
