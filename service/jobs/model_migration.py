"""Replaces a collection's model without new photos."""

import uuid
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import Conflict
from service.gallery.access.audit_entries import Action, Actor, Event
from service.gallery.access.audit_trail import AuditTrail
from service.gallery.jobs import jobs, rows
from service.gallery.jobs.records import UNFINISHED, Job, JobRef, Progress
from service.gallery.people import model_coverage, model_migration
from service.gallery.people.collections import Collection
from service.gallery.people.identities import Identity
from service.gallery.people.model_coverage import Coverage
from service.gallery.storage.database import LONG_S, Database
from service.gallery.storage.paging import PageCursor
from service.jobs.batches import enqueue_preparation
from service.jobs.queue import Queue
from service.jobs.reembedding import KIND
from service.recognition.collection_access import in_collection
from service.recognition.decision import DecisionResolver
from service.recognition.operating_point import OperatingPoint
from service.recognition.policy_checks import require_duplicates_decidable, require_resolvable


@dataclass(frozen=True, slots=True)
class MigrationState:
    """The models of a collection. The other fields are None without a secondary model.

    Attributes:
        job: the last re-embedding job of the secondary model, with its progress.
    """

    collection: Collection
    coverage: Coverage | None = None
    job: tuple[Job, Progress] | None = None


@dataclass(frozen=True)
class ModelMigration:
    """The use cases of a model migration."""

    database: Database
    audit_trail: AuditTrail
    queue: Queue
    resolver: DecisionResolver

    async def read(self, name: str) -> MigrationState:
        """Returns the state; takes about a second for a million identities. Raises CollectionNotFound."""
        async with in_collection(self.database, name, "/name", timeout_s=LONG_S) as (
            connection,
            collection,
        ):
            return await _state(connection, collection)

    async def start(self, name: str, model_id: str, auto_activate: bool, actor: Actor) -> Job:
        """Sets the secondary model and starts the job that embeds the stored crops, unless it is already running.

        Raises:
            CollectionNotFound, Conflict, ModelNotLoaded, RateNotCalibrated
        """
        async with in_collection(self.database, name, "/name", "update", LONG_S) as (
            connection,
            collection,
        ):
            self._require_usable(collection, model_id)
            collection = await model_migration.start(connection, collection, model_id, auto_activate)
            job = await jobs.last(connection, collection.id, KIND, model_id)
            if job is None or job.state not in UNFINISHED:
                request = {"model_id": model_id, "actor": actor.to_json()}
                job = await jobs.create(connection, JobRef(collection.id, uuid.uuid4()), KIND, request)
                await enqueue_preparation(self.queue, connection, job)
            event = Event(Action.MODEL_MIGRATION_START, actor, details={"model_id": model_id, "job": str(job.id)})
            await self.audit_trail.append(connection, collection.id, [event])
            return job

    async def missing(self, name: str, limit: int, after: PageCursor | None) -> list[Identity]:
        """Returns up to `limit` identities that need new photos, in the order of their creation.

        Raises:
            CollectionNotFound, Conflict
        """
        async with in_collection(self.database, name, "/name", timeout_s=LONG_S) as (
            connection,
            collection,
        ):
            return await model_coverage.people_missing(connection, collection, limit, after)

    async def activate(self, name: str, model_id: str | None, force: bool, actor: Actor) -> MigrationState:
        """Exchanges the two models; does nothing if `model_id` is active already.

        Raises:
            CollectionNotFound, Conflict, ModelIncomplete, ModelNotLoaded, RateNotCalibrated
        """
        async with in_collection(self.database, name, "/name", "update", LONG_S) as (
            connection,
            collection,
        ):
            if model_id is None or model_id != collection.model_id:
                _require_secondary(collection, model_id)
                self._require_usable(collection, model_coverage.required(collection))
                changed = await model_migration.activate(connection, collection, force)
                details = {"model_id": changed.model_id, "before": collection.model_id}
                event = Event(Action.MODEL_ACTIVATE, actor, details=details)
                await self.audit_trail.append(connection, collection.id, [event])
        return await self.read(name)

    async def drop(self, name: str, model_id: str | None, force: bool, actor: Actor) -> tuple[str, dict[str, int]]:
        """Deletes the secondary model's rows; returns the model and the number of deleted rows by kind.

        Raises:
            CollectionNotFound, Conflict, ModelIncomplete
        """
        async with in_collection(self.database, name, "/name", "update", LONG_S) as (
            connection,
            collection,
        ):
            _require_secondary(collection, model_id)
            secondary = model_coverage.required(collection)
            deleted = await model_migration.drop(connection, collection, force)
            event = Event(Action.MODEL_DROP, actor, details={"model_id": secondary})
            await self.audit_trail.append(connection, collection.id, [event])
            return secondary, deleted

    def _require_usable(self, collection: Collection, model_id: str) -> None:
        """Raises ModelNotLoaded or RateNotCalibrated if the collection's settings do not work with the model."""
        self.resolver.policy_of(model_id)
        require_resolvable(self.resolver, OperatingPoint.from_request(collection.fmr, collection.fpir), model_id)
        if collection.duplicates != "allow":
            require_duplicates_decidable(self.resolver, model_id)


def _require_secondary(collection: Collection, model_id: str | None) -> None:
    """Raises Conflict if the caller names another model than the secondary one."""
    if model_id not in (None, collection.secondary_model_id):
        raise Conflict(
            f"the model {model_id!r} is not the secondary model of the collection {collection.name!r}; "
            f"GET /collections/{collection.name}/model-migration returns the secondary model"
        )


async def _state(connection: AsyncConnection, collection: Collection) -> MigrationState:
    if collection.secondary_model_id is None:
        return MigrationState(collection)
    job = await jobs.last(connection, collection.id, KIND, collection.secondary_model_id)
    return MigrationState(
        collection,
        await model_coverage.coverage(connection, collection),
        None if job is None else (job, await rows.progress(connection, JobRef(collection.id, job.id))),
    )
