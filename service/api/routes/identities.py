"""Routes of /identities."""

import uuid
from typing import Annotated

from fastapi import APIRouter, Path, Query

from service.api.http.bodies import metadata_filter
from service.api.http.collection_scope import ManageScope
from service.api.http.cursors import Cursor, Limit, decode, encode, split_page
from service.api.schemas.fields import FIELDS, Fields, ModelId
from service.api.schemas.identities import (
    ErasureResponse,
    IdentitiesResponse,
    IdentityUpdateRequest,
    IdentityView,
    TemplateDeletionResponse,
    TemplatesResponse,
    erasure_response,
    identity_view,
    template_view,
)
from service.api.schemas.subject_data import SubjectDataResponse, subject_data_response
from service.api.state import State
from service.gallery.access.scopes import Scope
from service.recognition.identities import IdentityFilter
from service.recognition.person_fields import Name

router = APIRouter(prefix="/identities", tags=["identities"])


@router.get("", summary="List identities page by page")
async def list_identities(
    state: State,
    collection: ManageScope,
    limit: Limit = 100,
    cursor: Cursor = None,
    label: Annotated[Name | None, Query(description="only identities with this label")] = None,
    external_id: Annotated[Name | None, Query(description="only the identity with this external id")] = None,
    named: Annotated[
        bool | None, Query(description="only identities with a name (true), or those of unknown people (false)")
    ] = None,
    fields: Annotated[Fields | None, Query(description=FIELDS)] = None,
    filter: Annotated[  # noqa: A002  the name of the same filter in a search
        str | None, Query(max_length=16_384, description="only identities whose metadata fulfil this JSON filter")
    ] = None,
) -> IdentitiesResponse:
    """Returns identities in the order of their creation."""
    with_metadata = fields is None or "metadata" in fields
    conditions = None if filter is None else metadata_filter(filter)
    chosen = IdentityFilter(label, external_id, conditions, named, with_metadata)
    items = await state.identities.page(collection.name, limit + 1, decode(cursor), chosen)
    page, next_cursor = split_page(items, limit, encode)
    views = [identity_view(item, with_metadata) for item in page]
    return IdentitiesResponse(identities=views, next_cursor=next_cursor)


@router.get("/{identity_id}", summary="Read an identity")
async def read_identity(identity_id: uuid.UUID, state: State, collection: ManageScope) -> IdentityView:
    """Returns label, metadata, times and the number of templates of the active model, but no embeddings."""
    return identity_view(await state.identities.read(collection.name, identity_id))


@router.get("/external-ids/{external_id:path}", summary="Find the identity with an external id")
async def find_identity(
    external_id: Annotated[Name, Path(description="percent-encoded; compared in NFC and without surrounding spaces")],
    state: State,
    collection: ManageScope,
) -> IdentityView:
    """Returns the identity like `GET /identities/{identity_id}`. The response contains its `identity_id`."""
    return identity_view(await state.identities.find(collection.name, external_id))


@router.patch("/{identity_id}", summary="Change an identity's label, metadata or retention time, or name it")
async def update_identity(
    identity_id: uuid.UUID, body: IdentityUpdateRequest, state: State, collection: ManageScope
) -> IdentityView:
    """Changes the fields of the body and returns the identity. An absent field keeps its value.

    `metadata` replaces all stored metadata, and `retain_until: null` removes the retention time. An `external_id` gives
    an identity without a name (`named: false`) its name. Templates do not change.
    """
    changes = body.changes
    return identity_view(await state.identities.change(collection.name, identity_id, changes, collection.actor))


@router.delete("/{identity_id}", summary="Erase an identity")
async def erase_identity(identity_id: uuid.UUID, state: State, collection: ManageScope) -> ErasureResponse:
    """Deletes the identity with its templates, centroids, crops, metadata, stored responses and job rows.

    The response contains a receipt from the audit trail. `identity-registry db purge` also removes the bytes of deleted
    rows from the database's files.
    """
    return erasure_response(await state.identities.erase(collection.name, identity_id, collection.actor))


@router.get("/{identity_id}/export", summary="Export everything that is stored about an identity")
async def export_identity(identity_id: uuid.UUID, state: State, collection: ManageScope) -> SubjectDataResponse:
    """Returns the data for the rights of access and portability. The key also needs the scope `embeddings`.

    Entries of the audit trail are included for keys with the scope `audit`.
    """
    collection.access.require_scope(Scope.EMBEDDINGS)
    data = await state.identities.export(collection.name, identity_id, collection.actor)
    return subject_data_response(data, with_audit=collection.access.has(Scope.AUDIT))


@router.get("/{identity_id}/templates", summary="List the templates of an identity page by page")
async def list_templates(
    identity_id: uuid.UUID,
    state: State,
    collection: ManageScope,
    limit: Limit = 1000,
    cursor: Cursor = None,
    model_id: Annotated[ModelId | None, Query(description="model of the templates; default: the active model")] = None,
) -> TemplatesResponse:
    """Returns templates without their embeddings, oldest first."""
    items = await state.identities.templates(collection.name, identity_id, model_id, limit + 1, decode(cursor))
    page, next_cursor = split_page(items, limit, encode)
    return TemplatesResponse(templates=[template_view(item) for item in page], next_cursor=next_cursor)


@router.delete("/{identity_id}/templates/{template_id}", summary="Delete a template")
async def delete_template(
    identity_id: uuid.UUID, template_id: uuid.UUID, state: State, collection: ManageScope
) -> TemplateDeletionResponse:
    """Deletes the template, the templates of other models for the same face, and its crop; updates the centroid.

    An identity without templates remains, and no search returns it.
    """
    remaining = await state.identities.delete_template(collection.name, identity_id, template_id, collection.actor)
    return TemplateDeletionResponse(template_id=template_id, templates_left=remaining)
