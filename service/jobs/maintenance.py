"""What has to be done now and then, by one process of all."""

import asyncio
import logging
import uuid
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import RegistryError
from service.gallery.access.audit import SERVICE, Action, Event, AuditTrail
from service.gallery.index import codes, hnsw
from service.gallery.jobs import jobs
from service.gallery.jobs.jobs import Job, JobRef, State
from service.gallery.people import erasure, idempotency, model_migration
from service.gallery.people.collections import Collection
from service.gallery.storage.database import Database
from service.jobs.batches import enqueue_batches, enqueue_preparation
from service.jobs.queue import QUEUE, Queue
from service.jobs.reembedding import KIND
from service.jobs.uploads import Uploads

log = logging.getLogger(__name__)
LEFTOVER_S = 3600
"""Age from which on an archive that no job knows is one that a killed process left."""


@dataclass(frozen=True)
class Maintenance:
    """Indexes for collections that have grown, and an end for what has had its time.

    `owner`: of the tables, who alone may build indexes.
    """

    database: Database
    owner: Database
    queue: Queue
    uploads: Uploads
    trail: AuditTrail
    hnsw_min_identities: int
    hnsw_memory_mb: int | None
    keep_days: int

    async def __call__(self) -> None:
        """One chore after the other; what one of them minds does not keep the others from being done."""
        for chore in (
            self._expire,
            self._forget_answers,
            self._forget_jobs,
            self._resume,
            self._code,
            self._index,
            self._activate,
        ):
            try:
                await chore()
            except Exception as error:
                log.warning("maintenance: %s: %s", chore.__name__.strip("_"), str(error).partition("\n")[0])

    async def _forget_answers(self) -> None:
        async with self.database.transaction(all_collections=True) as connection:
            await idempotency.purge(connection)

    async def _forget_jobs(self) -> None:
        """Finished ones that had their time; unfinished ones that nobody has worked on for a day."""
        async with self.database.transaction(all_collections=True) as connection:
            await jobs.fail_forgotten(connection)
        purged = 1
        while purged:
            async with self.database.transaction(all_collections=True) as connection:
                purged = await jobs.purge(connection, self.keep_days)

    async def _code(self) -> None:
        """Give codes to those who came without, as from a release that knew nothing of them."""
        filled = 1
        while filled:
            async with self.database.transaction(all_collections=True) as connection:
                filled = await codes.fill(connection)

    async def _index(self) -> None:
        await hnsw.maintain(self.owner, self.hnsw_min_identities, self.hnsw_min_identities // 2, self.hnsw_memory_mb)

    async def _activate(self) -> None:
        """Let standby models that are to become active do so, once they know everybody and their index is built."""
        async with self.database.transaction(all_collections=True) as connection:
            waiting = await model_migration.to_activate(connection)
        for found in waiting:
            try:
                await self._activate_in(found)
            except RegistryError as error:  # of this one: the others may be ready
                log.info("the model of collection %r does not change yet: %s", found.name, error.detail)

    async def _activate_in(self, found: Collection) -> None:
        async with self.database.transaction(all_collections=True) as connection:
            await connection.execute(text("SET LOCAL statement_timeout = 0"))  # many people may have to be counted
            if not await self._is_ready(connection, found):
                return
            changed = await model_migration.activate(connection, found)
            details = {"model_id": changed.model_id, "before": changed.secondary_model_id}
            await self.trail.append(connection, changed.id, [Event(Action.MODEL_ACTIVATE, SERVICE, details=details)])

    async def _is_ready(self, connection: AsyncConnection, found: Collection) -> bool:
        """Whether nothing is under way that the change should wait for."""
        if any(job.collection_id == found.id and job.kind == KIND for job in await jobs.unfinished(connection)):
            return False
        covered = await model_migration.coverage(connection, found)
        if not covered.complete:
            return False
        large = covered.people >= self.hnsw_min_identities
        return not large or await hnsw.is_ready(connection, found.id, model_migration.required(found))

    async def _expire(self) -> None:
        """Erase those who were to be kept until now."""
        while True:
            async with self.database.transaction(all_collections=True) as connection:
                people = await erasure.expired(connection)
            for collection_id, identity_id in people:
                async with self.database.transaction(all_collections=True) as connection:
                    await erasure.expire(connection, self.trail, collection_id, identity_id)
            if len(people) < erasure.EXPIRED_AT_ONCE:
                return

    async def _resume(self) -> None:
        """Hand over again what the queue knows nothing of, as after a backup was restored."""
        async with self.database.transaction(all_collections=True) as connection:
            queued = await _queued(connection)
            for job in await jobs.unfinished(connection):
                if job.id not in queued:
                    await self._put_again(connection, job)

    async def sweep(self) -> None:
        """Delete archives that no job needs any more. Every process does so in its own folder."""
        async with self.database.transaction(all_collections=True) as connection:
            unfinished = await jobs.unfinished(connection)
        await asyncio.to_thread(self.uploads.sweep, {job.id for job in unfinished}, LEFTOVER_S)

    async def _put_again(self, connection: AsyncConnection, job: Job) -> None:
        place = JobRef(job.collection_id, job.id)
        if job.state is State.WAITING:
            await enqueue_preparation(self.queue, connection, job)
        elif (numbers := await jobs.waiting_numbers(connection, place)) is not None:
            await enqueue_batches(self.queue, connection, job, *numbers)
        else:
            await jobs.finish_if_done(connection, place)


async def _queued(connection: AsyncConnection) -> set[uuid.UUID]:
    """Jobs of which a task waits or runs."""
    query = text(
        "SELECT DISTINCT args->>'job_id' FROM procrastinate.procrastinate_jobs "
        "WHERE queue_name LIKE :queue || '%' AND status IN ('todo', 'doing') AND args ? 'job_id'"
    )
    return {uuid.UUID(row[0]) for row in await connection.execute(query, {"queue": QUEUE})}
