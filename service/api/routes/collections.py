"""/collections"""

from typing import Annotated

from fastapi import APIRouter, Path, Request

from service.api.access import ManageAccess
from service.api.bodies import operation, read_body
from service.api.dependencies import RegistryDependency
from service.api.schemas import (
    CollectionBody,
    CollectionChange,
    CollectionDeletionAnswer,
    CollectionName,
    CollectionsAnswer,
    CollectionView,
)
from service.gallery import collections
from service.gallery.audit import Action, Event
from service.gallery.size import count
from service.recognition.duplicates import DuplicatePolicy
from service.recognition.gate import QualityMode

router = APIRouter(prefix="/collections", tags=["gallery"])


@router.get("", summary="All collections")
async def list_collections(registry: RegistryDependency, access: ManageAccess) -> CollectionsAnswer:
    """Those that the key is for."""
    async with registry.database.transaction() as connection:
        found = await collections.list_all(connection)
    views = [_view(collection, identities) for collection, identities in found]
    return CollectionsAnswer(collections=[view for view in views if access.collection in (None, view.name)])


@router.post("", openapi_extra=operation(CollectionBody), status_code=201, summary="Make a collection")
async def create_collection(request: Request, registry: RegistryDependency, access: ManageAccess) -> CollectionView:
    """A namespace of identities, bound to the model that the service runs."""
    access.enter(None)
    body = await read_body(request, CollectionBody)
    registry.deciding.require_resolvable(body.operating_point)
    _require_decidable(registry, body.duplicates)
    async with registry.database.transaction() as connection:
        made = await collections.create(
            connection, body.name, registry.engine.model_id, **body.model_dump(mode="json", exclude={"name"})
        )
        event = Event(Action.COLLECTION_CREATE, access.actor(request), details={"name": made.name})
        await registry.trail.append(connection, made.id, [event])
    return _view(made, 0)


@router.patch("/{name}", openapi_extra=operation(CollectionChange), summary="Change a collection's rules")
async def change_collection(
    request: Request, name: Annotated[CollectionName, Path()], registry: RegistryDependency, access: ManageAccess
) -> CollectionView:
    """Its default rate, and what it asks of newcomers. People who are enrolled stay as they are."""
    access.enter(name)
    body = await read_body(request, CollectionChange)
    _require_decidable(registry, body.duplicates)
    async with registry.database.transaction() as connection:
        changed = await collections.change(connection, name, **body.choices)
        if body.operating_point is not None:  # which the gallery may be too large for already
            await registry.deciding.in_gallery(connection, changed, body.operating_point)
        size = await count(connection, changed.id, changed.model_id)
        event = Event(Action.COLLECTION_CHANGE, access.actor(request), details=body.choices)
        await registry.trail.append(connection, changed.id, [event])
    return _view(changed, size.people)


@router.delete("/{name}", summary="Delete a collection with everybody in it")
async def delete_collection(
    request: Request, name: Annotated[CollectionName, Path()], registry: RegistryDependency, access: ManageAccess
) -> CollectionDeletionAnswer:
    """Its audit trail stays."""
    access.enter(name)
    async with registry.database.transaction() as connection:
        collection_id, deleted = await collections.remove(connection, name)
        details = {"name": name, "identities": deleted}
        event = Event(Action.COLLECTION_DELETE, access.actor(request), details=details)
        await registry.trail.append(connection, collection_id, [event])
    return CollectionDeletionAnswer(name=name, identities_deleted=deleted)


def _require_decidable(registry: RegistryDependency, duplicates: DuplicatePolicy | None) -> None:
    if duplicates not in (None, DuplicatePolicy.ALLOW):
        registry.deciding.require_duplicates_decidable()


def _view(collection: collections.Collection, identities: int) -> CollectionView:
    return CollectionView(
        name=collection.name,
        model_id=collection.model_id,
        fmr=collection.fmr,
        fpir=collection.fpir,
        quality=QualityMode(collection.quality),
        duplicates=DuplicatePolicy(collection.duplicates),
        identity_count=identities,
        created_at=collection.created_at,
    )
