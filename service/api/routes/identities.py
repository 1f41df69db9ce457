"""/identities"""

import uuid
from typing import Annotated

from fastapi import APIRouter, Query, Request

from service.api.http.bodies import metadata_filter, operation, read_body
from service.api.http.collection_scope import InCollection
from service.api.http.cursors import Cursor, Limit, cut, decode, encode
from service.api.schemas.all_schemas import (
    DeletionResponse,
    SubjectDataResponse,
    IdentitiesResponse,
    IdentityUpdateRequest,
    IdentityView,
    ModelId,
    Name,
    TemplateDeletionResponse,
    TemplatesResponse,
    TemplateView,
)
from service.api.schemas.views import deletion_answer, subject_data_response, identity_view
from service.api.state import RegistryDependency
from service.gallery.access.audit import Action
from service.gallery.access.scopes import Scope
from service.gallery.people import collections, erasure, identities, templates
from service.gallery.people.subject_data import read_subject_data
from service.gallery.search.filters import condition_of

router = APIRouter(prefix="/identities", tags=["gallery"])


@router.get("", summary="The enrolled people, page by page")
async def list_identities(
    collection: InCollection,
    limit: Limit = 100,
    cursor: Cursor = None,
    label: Annotated[Name | None, Query(description="only people with exactly this label")] = None,
    external_id: Annotated[Name | None, Query(description="only the person with this id of yours")] = None,
    filter: Annotated[  # noqa: A002  the name that a search has for it
        str | None, Query(max_length=16_384, description="only people whose metadata fulfil this JSON, as in a search")
    ] = None,
) -> IdentitiesResponse:
    """In the order in which they were enrolled. A page begins after its cursor, whatever came or went meanwhile."""
    after = decode(cursor)
    among = None if filter is None else condition_of(metadata_filter(filter))
    async with collection.transaction() as (connection, collection_id):
        found = await identities.page(connection, collection_id, limit + 1, after, label, external_id, among)
    page, next_cursor = cut(found, limit, encode)
    return IdentitiesResponse(identities=[identity_view(identity) for identity in page], next_cursor=next_cursor)


@router.get("/{identity_id}", summary="One enrolled person")
async def read(identity_id: uuid.UUID, collection: InCollection) -> IdentityView:
    async with collection.transaction() as (connection, collection_id):
        return identity_view(await identities.get(connection, collection_id, identity_id))


@router.delete("/{identity_id}", summary="Delete a person with all templates")
async def delete(identity_id: uuid.UUID, collection: InCollection, registry: RegistryDependency) -> DeletionResponse:
    """Centroids, crops, metadata, kept answers and rows of jobs go along. The answer is a receipt.

    The rows are gone at once; `python -m service db purge` also takes their bytes out of the database's files.
    """
    async with collection.transaction() as (connection, collection_id):
        receipt = await erasure.erase(connection, registry.trail, collection_id, identity_id, collection.actor)
    return deletion_answer(receipt)


@router.get("/{identity_id}/export", summary="Everything that is held on a person")
async def export(identity_id: uuid.UUID, collection: InCollection, registry: RegistryDependency) -> SubjectDataResponse:
    """For whoever has a right to know, and to take along; embeddings are in it, so the key needs that scope as well.

    What the audit trail says of the person is there for keys that may read it.
    """
    collection.access.require_scope(Scope.EMBEDDINGS)
    await registry.read_audit.flush()
    async with collection.transaction() as (connection, collection_id):
        held = await read_subject_data(connection, collection_id, identity_id)
        await collection.record(connection, collection_id, Action.EXPORT, identity_id)
    return subject_data_response(held, registry.crop_cipher, with_audit=collection.access.has(Scope.AUDIT))


@router.patch("/{identity_id}", openapi_extra=operation(IdentityUpdateRequest), summary="Change a person's label or metadata")
async def change(
    request: Request,
    identity_id: uuid.UUID,
    collection: InCollection,
) -> IdentityView:
    body = await read_body(request, IdentityUpdateRequest)
    async with collection.transaction() as (connection, collection_id):
        changed = await identities.change(connection, collection_id, identity_id, **body.changes)
        fields = sorted(body.changes)
        await collection.record(connection, collection_id, Action.CHANGE, identity_id, fields=fields)
    return identity_view(changed)


@router.get("/{identity_id}/templates", summary="What is stored of a person's pictures, page by page")
async def list_templates(
    identity_id: uuid.UUID,
    collection: InCollection,
    limit: Limit = 1000,
    cursor: Cursor = None,
    model_id: Annotated[ModelId | None, Query(description="of this model; unset: of the collection's own")] = None,
) -> TemplatesResponse:
    """Without embeddings."""
    after = decode(cursor)
    async with collection.opened() as (connection, found):
        await identities.get(connection, found.id, identity_id)
        stored = await templates.list_of(
            connection, found.id, identity_id, model_id or found.model_id, limit + 1, after
        )
    page, next_cursor = cut(list(stored), limit, encode)
    views = [TemplateView.model_validate(item, from_attributes=True) for item in page]
    return TemplatesResponse(templates=views, next_cursor=next_cursor)


@router.delete("/{identity_id}/templates/{template_id}", summary="Delete one picture's template")
async def delete_template(
    identity_id: uuid.UUID,
    template_id: uuid.UUID,
    collection: InCollection,
) -> TemplateDeletionResponse:
    """The person's centroid is made anew from the others. Without any left the person stays, and is not found.

    What other models made of the same face goes along, and its crop.
    """
    async with collection.transaction() as (connection, collection_id):
        await collections.share_model_lock(connection, collection_id)
        await identities.lock(connection, collection_id, identity_id)
        left = await templates.remove(connection, collection_id, identity_id, template_id)
        await collection.record(connection, collection_id, Action.DELETE_TEMPLATE, identity_id, left=left)
    return TemplateDeletionResponse(template_id=template_id, templates_left=left)
