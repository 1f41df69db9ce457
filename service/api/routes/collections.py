"""/collections"""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request

from service.api.http.access import ManageAccess
from service.api.http.bodies import operation, read_body
from service.api.http.cursors import Cursor, Limit, cut, decode_text, encode_text
from service.api.schemas.all_schemas import (
    CollectionCreateRequest,
    CollectionUpdateRequest,
    CollectionDeletionResponse,
    CollectionName,
    CollectionsResponse,
    CollectionView,
)
from service.api.state import Registry, RegistryDependency
from service.errors import CropsUnavailable
from service.gallery.access.audit import Action, Event
from service.gallery.people import collections, crops
from service.gallery.search.sizes import count
from service.recognition.duplicates import DuplicatePolicy
from service.recognition.gate import QualityMode

router = APIRouter(prefix="/collections", tags=["gallery"])


@router.get("", summary="The collections by name, page by page")
async def list_collections(
    registry: RegistryDependency,
    access: ManageAccess,
    limit: Limit = 100,
    cursor: Cursor = None,
    prefix: Annotated[
        str | None, Query(max_length=63, pattern=r"^[A-Za-z0-9._-]*$", description="only names that begin so")
    ] = None,
) -> CollectionsResponse:
    """Those that the key is for."""
    after = decode_text(cursor)
    async with registry.database.transaction(all_collections=True) as connection:
        found = await collections.page(connection, limit + 1, after, access.collection, prefix)
    page, next_cursor = cut(list(found), limit, lambda item: encode_text(item[0].name))
    return CollectionsResponse(collections=[_view(*item) for item in page], next_cursor=next_cursor)


@router.get("/{name}", summary="One collection")
async def read_collection(
    name: Annotated[CollectionName, Path()], registry: RegistryDependency, access: ManageAccess
) -> CollectionView:
    access.enter(name)
    async with registry.database.transaction() as connection:
        found = await collections.get(connection, name, "/name")
        size = await count(connection, found.id, found.model_id)
    return _view(found, size.people)


@router.post("", openapi_extra=operation(CollectionCreateRequest), status_code=201, summary="Make a collection")
async def create_collection(request: Request, registry: RegistryDependency, access: ManageAccess) -> CollectionView:
    """A namespace of identities, bound to one of the models that the service runs."""
    access.enter(None)
    body = await read_body(request, CollectionCreateRequest)
    model_id = body.model_id or registry.engine.model_id
    registry.resolver.policy_of(model_id)
    registry.resolver.require_resolvable(body.operating_point, model_id)
    _require_decidable(registry, body.duplicates, model_id)
    _require_key(registry, body.store_crops)
    choices = body.model_dump(mode="json", exclude={"name", "model_id"})
    async with registry.database.transaction() as connection:
        made = await collections.create(connection, body.name, model_id, **choices)
        event = Event(Action.COLLECTION_CREATE, access.actor(request), details={"name": made.name})
        await registry.trail.append(connection, made.id, [event])
    return _view(made, 0)


@router.patch("/{name}", openapi_extra=operation(CollectionUpdateRequest), summary="Change a collection's rules")
async def change_collection(
    request: Request, name: Annotated[CollectionName, Path()], registry: RegistryDependency, access: ManageAccess
) -> CollectionView:
    """Its default rate, what it asks of newcomers, whether crops are kept. People who are enrolled stay as they are."""
    access.enter(name)
    body = await read_body(request, CollectionUpdateRequest)
    _require_key(registry, body.store_crops)
    async with registry.database.transaction() as connection:
        found = await collections.get(connection, name, "/name")
        for model_id in filter(None, (found.model_id, found.secondary_model_id)):
            _require_decidable(registry, body.duplicates, model_id)
            registry.resolver.require_resolvable(body.operating_point, model_id)
        if body.store_crops is not None:
            await collections.take_model_lock(connection, found.id)
        changed = await collections.change(connection, name, **body.choices)
        if body.store_crops is False:
            await crops.delete_all(connection, changed.id)
        if body.operating_point is not None:  # which the gallery may be too large for already
            await registry.resolver.for_gallery(connection, changed, body.operating_point)
        size = await count(connection, changed.id, changed.model_id)
        event = Event(Action.COLLECTION_CHANGE, access.actor(request), details=body.choices)
        await registry.trail.append(connection, changed.id, [event])
    return _view(changed, size.people)


@router.delete("/{name}", summary="Delete a collection with everybody in it")
async def delete_collection(
    request: Request, name: Annotated[CollectionName, Path()], registry: RegistryDependency, access: ManageAccess
) -> CollectionDeletionResponse:
    """Its audit trail stays."""
    access.enter(name)
    async with registry.database.transaction() as connection:
        collection_id, deleted = await collections.remove(connection, name)
        details = {"name": name, "identities": deleted}
        event = Event(Action.COLLECTION_DELETE, access.actor(request), details=details)
        await registry.trail.append(connection, collection_id, [event])
    return CollectionDeletionResponse(name=name, identities_deleted=deleted)


def _require_decidable(registry: Registry, duplicates: DuplicatePolicy | None, model_id: str) -> None:
    if duplicates not in (None, DuplicatePolicy.ALLOW):
        registry.resolver.require_duplicates_decidable(model_id)


def _require_key(registry: Registry, store_crops: bool | None) -> None:
    """Raises CropsUnavailable."""
    if store_crops and registry.crop_cipher is None:
        raise CropsUnavailable("set crops.key, the same for all services on this database", pointer="/store_crops")


def _view(collection: collections.Collection, identities: int) -> CollectionView:
    return CollectionView(
        name=collection.name,
        model_id=collection.model_id,
        fmr=collection.fmr,
        fpir=collection.fpir,
        quality=QualityMode(collection.quality),
        duplicates=DuplicatePolicy(collection.duplicates),
        store_crops=collection.store_crops,
        secondary_model_id=collection.secondary_model_id,
        identity_count=identities,
        created_at=collection.created_at,
    )
