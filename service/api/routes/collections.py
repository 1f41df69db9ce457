"""Routes of /collections."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response

from service.api.http.access import ManageAccess
from service.api.http.cursors import Cursor, Limit, decode_text, encode_text, split_page
from service.api.schemas.collections import (
    CollectionCreateRequest,
    CollectionDeletionResponse,
    CollectionsResponse,
    CollectionUpdateRequest,
    CollectionView,
    collection_view,
)
from service.api.schemas.fields import CollectionName
from service.api.schemas.gallery_report import GalleryReport, gallery_report_view
from service.api.state import State
from service.recognition.operating_point import OperatingPoint

router = APIRouter(prefix="/collections", tags=["collections"])
IN_BACKGROUND: dict[int | str, dict[str, Any]] = {
    202: {"model": CollectionDeletionResponse, "description": "The remaining identities are deleted in the background"}
}
Named = Annotated[CollectionName, Path(description="name of the collection")]


@router.get("", summary="List collections page by page")
async def list_collections(
    state: State,
    access: ManageAccess,
    limit: Limit = 100,
    cursor: Cursor = None,
    prefix: Annotated[
        str | None, Query(max_length=63, pattern=r"^[A-Za-z0-9._-]*$", description="only names with this prefix")
    ] = None,
) -> CollectionsResponse:
    """Returns the collections that the key may access, in the order of their names."""
    items = await state.collections.page(limit + 1, decode_text(cursor), access.collection, prefix)
    page, next_cursor = split_page(items, limit, lambda item: encode_text(item[0].name))
    return CollectionsResponse(collections=[collection_view(*item) for item in page], next_cursor=next_cursor)


@router.get("/{name}", summary="Read a collection")
async def read_collection(name: Named, state: State, access: ManageAccess) -> CollectionView:
    """Returns the settings, the models and the number of identities with templates of the active model."""
    access.require_collection(name)
    return collection_view(*await state.collections.read(name))


@router.get("/{name}/report", summary="Find people enrolled twice and misplaced templates")
async def read_gallery_report(
    request: Request,
    name: Named,
    state: State,
    access: ManageAccess,
    threshold: Annotated[
        float | None, Query(ge=-1, le=1, description="in place of the threshold of the collection's default rate")
    ] = None,
) -> GalleryReport:
    """Compares the templates of the collection with each other.

    At most `limits.max_compared_templates` are compared, one collection at a time; a larger collection is sampled.
    `identity-registry gallery report` compares up to 50,000 and draws plots.
    """
    access.require_collection(name)
    requested = OperatingPoint.from_request(threshold=threshold)
    return gallery_report_view(await state.gallery_comparer.compare(name, requested, access.actor(request)))


@router.post("", status_code=201, summary="Create a collection")
async def create_collection(
    request: Request, body: CollectionCreateRequest, state: State, access: ManageAccess
) -> CollectionView:
    """Creates a namespace of identities that uses one of the loaded models."""
    access.require_collection(None)
    actor = access.actor(request)
    return collection_view(await state.collections.create(body.name, body.model_id, body.settings, actor), 0)


@router.patch("/{name}", summary="Change a collection's settings")
async def update_collection(
    request: Request, name: Named, body: CollectionUpdateRequest, state: State, access: ManageAccess
) -> CollectionView:
    """Changes the default rate, the rules for new identities, or the storage of crops. Templates do not change."""
    access.require_collection(name)
    return collection_view(*await state.collections.change(name, body.settings, access.actor(request)))


@router.delete("/{name}", summary="Delete a collection with all its identities", responses=IN_BACKGROUND)
async def delete_collection(
    request: Request, response: Response, name: Named, state: State, access: ManageAccess
) -> CollectionDeletionResponse:
    """Deletes the collection with its identities. Its audit trail remains.

    The collection disappears at once. If it is large, the status is 202, and the service deletes the remaining rows in
    the background.
    """
    access.require_collection(name)
    identities, remaining = await state.collections.delete(name, access.actor(request))
    response.status_code = 202 if remaining else 200
    deleted = identities - remaining
    return CollectionDeletionResponse(name=name, identities_deleted=deleted, identities_remaining=remaining)
