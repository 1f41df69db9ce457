"""/collections"""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request

from service.api.access import ManageAccess
from service.api.bodies import operation, read_body
from service.api.cursor import Cursor, Limit, cut, decode_text, encode_text
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


@router.get("", summary="The collections by name, page by page")
async def list_collections(
    registry: RegistryDependency,
    access: ManageAccess,
    limit: Limit = 100,
    cursor: Cursor = None,
    prefix: Annotated[
        str | None, Query(max_length=63, pattern=r"^[A-Za-z0-9._-]*$", description="only names that begin so")
    ] = None,
) -> CollectionsAnswer:
    """Those that the key is for."""
    after = decode_text(cursor)
    async with registry.database.transaction(everything=True) as connection:
        found = await collections.page(connection, limit + 1, after, access.collection, prefix)
    page, next_cursor = cut(list(found), limit, lambda item: encode_text(item[0].name))
    return CollectionsAnswer(collections=[_view(*item) for item in page], next_cursor=next_cursor)


@router.get("/{name}", summary="One collection")
async def read_collection(
    name: Annotated[CollectionName, Path()], registry: RegistryDependency, access: ManageAccess
) -> CollectionView:
    access.enter(name)
    async with registry.database.transaction() as connection:
        found = await collections.get(connection, name, "/name")
        size = await count(connection, found.id, found.model_id)
    return _view(found, size.people)


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
