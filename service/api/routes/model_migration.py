"""/collections/{name}/model-migration: another model, without enrolling anybody again"""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from sqlalchemy.ext.asyncio import AsyncConnection

from service.api.http.access import ManageAccess
from service.api.http.bodies import operation, read_body
from service.api.http.cursors import Cursor, Limit, cut, decode, encode
from service.api.schemas.all_schemas import CollectionName, ModelId
from service.api.schemas.jobs import JobDetail, JobView, job_detail, job_view
from service.api.schemas.model_migration import (
    ActivationRequest,
    MissingPeopleResponse,
    MissingPerson,
    ModelMigrationRequest,
    ModelMigrationDeletionResponse,
    ModelMigrationView,
    coverage_view,
)
from service.api.state import Registry, RegistryDependency
from service.errors import Conflict
from service.gallery.access.audit import Action, Event
from service.gallery.index import hnsw
from service.gallery.jobs import jobs
from service.gallery.jobs.jobs import Job, JobRef
from service.gallery.people import collections, model_migration
from service.gallery.people.collections import Collection
from service.jobs.batches import enqueue_preparation
from service.jobs.reembedding import KIND
from service.recognition.decision import OperatingPoint

router = APIRouter(prefix="/collections/{name}/model-migration", tags=["models"])


class NamedCollection:
    """The collection of the address, once the caller's key has been found to be for it."""

    def __init__(
        self,
        request: Request,
        name: Annotated[CollectionName, Path()],
        registry: RegistryDependency,
        access: ManageAccess,
    ) -> None:
        access.enter(name)
        self.registry, self.name, self.actor = registry, name, access.actor(request)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[tuple[AsyncConnection, Collection]]:
        """A transaction and the collection. Raises CollectionNotFound."""
        async with self.registry.database.transaction() as connection:
            yield connection, await collections.get(connection, self.name, "/name")

    async def record(self, connection: AsyncConnection, found: Collection, action: Action, **details: str) -> None:
        await self.registry.trail.append(connection, found.id, [Event(action, self.actor, details=details)])


Named = Annotated[NamedCollection, Depends()]


@router.get("", summary="The other model, and whom it knows")
async def read(named: Named) -> ModelMigrationView:
    """Counting takes about a second for a million people."""
    async with named.opened() as (connection, found):
        return await _view(connection, found)


@router.post("", openapi_extra=operation(ModelMigrationRequest), status_code=202, summary="Change to another model")
async def start(request: Request, response: Response, named: Named) -> JobView:
    """Every new face is embedded by both models from now on, and a job embeds the crops of those who are enrolled.

    The collection is searched by its own model until the other one knows everybody; then the two change places, in
    one moment. The one that was active stands by, and can take its place back (`/model-migration/activate`), until it is
    dropped. Who has no crops (`store_crops`) needs a new photo; `/model-migration/missing` names them. May be sent again, to
    do what could not be done the last time.
    """
    body = await read_body(request, ModelMigrationRequest)
    registry = named.registry
    async with named.opened() as (connection, found):
        _require_usable(registry, found, body.model_id)
        found = await model_migration.start(connection, found, body.model_id, body.activate)
        if (job := await _unfinished(connection, found.id, body.model_id)) is None:
            wish = {"model_id": body.model_id, "actor": named.actor.to_json()}
            job = await jobs.create(connection, JobRef(found.id, uuid.uuid4()), KIND, wish)
            await enqueue_preparation(registry.queue, connection, job)
        await named.record(connection, found, Action.MODEL_STANDBY, model_id=body.model_id, job=str(job.id))
    response.headers["Location"] = f"/jobs/{job.id}?collection={named.name}"
    return job_view(job)


@router.get("/missing", summary="Who needs new photos, page by page")
async def list_missing(named: Named, limit: Limit = 100, cursor: Cursor = None) -> MissingPeopleResponse:
    """People whom the collection's own model knows and the other one doesn't: no crops of them were kept."""
    after = decode(cursor)
    async with named.opened() as (connection, found):
        people = await model_migration.people_missing(connection, found, limit + 1, after)
    page, next_cursor = cut(people, limit, encode)
    views = [MissingPerson(identity_id=one.id, external_id=one.external_id, label=one.label) for one in page]
    return MissingPeopleResponse(people=views, next_cursor=next_cursor)


@router.post("/activate", openapi_extra=operation(ActivationRequest), summary="Let the two models change places")
async def activate(request: Request, named: Named) -> ModelMigrationView:
    """At once; sent again it is the way back. Searches that are under way are answered by one model or the other."""
    body = await read_body(request, ActivationRequest)
    async with named.opened() as (connection, found):
        if body.model_id is None or body.model_id != found.model_id:
            _require_standby(found, body.model_id)
            _require_usable(named.registry, found, model_migration.required(found))
            changed = await model_migration.activate(connection, found, body.force)
            details = {"model_id": changed.model_id, "before": found.model_id}
            await named.record(connection, changed, Action.MODEL_ACTIVATE, **details)
    return await read(named)


@router.delete("", summary="Forget what the other model made")
async def drop(
    named: Named,
    model_id: Annotated[
        ModelId | None, Query(description="which is meant; refused where another one stands by")
    ] = None,
    force: Annotated[bool, Query(description="also where it alone knows people")] = False,
) -> ModelMigrationDeletionResponse:
    """Its templates, centroids and corrections, at once; its index within a minute. There is no way back then."""
    async with named.opened() as (connection, found):
        _require_standby(found, model_id)
        model_id = model_migration.required(found)
        deleted = await model_migration.drop(connection, found, force)
        await named.record(connection, found, Action.MODEL_DROP, model_id=model_id)
    return ModelMigrationDeletionResponse(model_id=model_id, deleted=deleted)


def _require_usable(registry: Registry, found: Collection, model_id: str) -> None:
    """Raises ModelNotLoaded, FmrNotCalibrated: the collection's rules can't be kept by this model."""
    registry.resolver.policy_of(model_id)
    registry.resolver.require_resolvable(OperatingPoint.one_of(found.fmr, found.fpir), model_id)
    if found.duplicates != "allow":
        registry.resolver.require_duplicates_decidable(model_id)


def _require_standby(found: Collection, model_id: str | None) -> None:
    """Raises Conflict: another model stands by than the caller thinks."""
    if model_id not in (None, found.secondary_model_id):
        raise Conflict(f"model {model_id!r} does not stand by; GET /collections/{found.name}/model-migration tells which does")


async def _unfinished(connection: AsyncConnection, collection_id: uuid.UUID, model_id: str) -> Job | None:
    """A re-embedding by the model that is under way."""
    job = await jobs.last(connection, collection_id, KIND, model_id)
    return job if job is not None and job.state in jobs.UNFINISHED else None


async def _view(connection: AsyncConnection, found: Collection) -> ModelMigrationView:
    other = found.secondary_model_id
    coverage, index, detail = None, None, None
    if other is not None:
        coverage = coverage_view(await model_migration.coverage(connection, found))
        index = "ready" if await hnsw.is_ready(connection, found.id, other) else "none"
        detail = await _last_job(connection, found.id, other)
    return ModelMigrationView(
        model_id=found.model_id,
        secondary_model_id=other,
        auto_activate=found.auto_activate,
        coverage=coverage,
        index=index,
        job=detail,
    )


async def _last_job(connection: AsyncConnection, collection_id: uuid.UUID, model_id: str) -> JobDetail | None:
    job = await jobs.last(connection, collection_id, KIND, model_id)
    if job is None:
        return None
    return job_detail(job, await jobs.progress(connection, JobRef(collection_id, job.id)))
