"""/identities"""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from sqlalchemy.ext.asyncio import AsyncConnection

from service.api.access import ManageAccess
from service.api.bodies import operation, read_body
from service.api.cursor import decode, encode
from service.api.dependencies import RegistryDependency
from service.api.schemas import (
    CollectionName,
    DeletionAnswer,
    IdentitiesAnswer,
    IdentityChange,
    IdentityView,
    Name,
    TemplateDeletionAnswer,
    TemplatesAnswer,
    TemplateView,
)
from service.api.views import identity_view
from service.gallery import collections, identities, templates
from service.gallery.collections import DEFAULT

router = APIRouter(prefix="/identities", tags=["gallery"])


class _OneCollection:
    """The collection that a request is about, once the caller's key has been found to be for it."""

    def __init__(
        self,
        registry: RegistryDependency,
        access: ManageAccess,
        collection: Annotated[CollectionName, Query()] = DEFAULT,
    ) -> None:
        access.enter(collection)
        self._registry, self.name = registry, collection

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[tuple[AsyncConnection, uuid.UUID]]:
        """A transaction and the collection's id. Raises CollectionNotFound."""
        async with self._registry.database.transaction() as connection:
            yield connection, (await collections.get(connection, self.name)).id


InCollection = Annotated[_OneCollection, Depends()]


@router.get("", summary="The enrolled people, page by page")
async def list_identities(
    collection: InCollection,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: Annotated[str | None, Query(max_length=200, description="`next_cursor` of the page before")] = None,
    label: Annotated[Name | None, Query(description="only people with exactly this label")] = None,
    external_id: Annotated[Name | None, Query(description="only the person with this id of yours")] = None,
) -> IdentitiesAnswer:
    """In the order in which they were enrolled. A page begins after its cursor, whatever came or went meanwhile."""
    after = None if cursor is None else decode(cursor)
    async with collection.transaction() as (connection, collection_id):
        page = await identities.page(connection, collection_id, limit + 1, after, label, external_id)
    is_last = len(page) <= limit
    views = [identity_view(identity) for identity in page[:limit]]
    return IdentitiesAnswer(identities=views, next_cursor=None if is_last else encode(page[limit - 1]))


@router.get("/{identity_id}", summary="One enrolled person")
async def read(identity_id: uuid.UUID, collection: InCollection) -> IdentityView:
    async with collection.transaction() as (connection, collection_id):
        return identity_view(await identities.get(connection, collection_id, identity_id))


@router.delete("/{identity_id}", summary="Delete a person with all templates")
async def delete(identity_id: uuid.UUID, collection: InCollection) -> DeletionAnswer:
    async with collection.transaction() as (connection, collection_id):
        deleted = await identities.remove(connection, collection_id, identity_id)
    return DeletionAnswer(identity_id=identity_id, templates_deleted=deleted)


@router.patch("/{identity_id}", openapi_extra=operation(IdentityChange), summary="Change a person's label or metadata")
async def change(
    request: Request,
    identity_id: uuid.UUID,
    collection: InCollection,
) -> IdentityView:
    body = await read_body(request, IdentityChange)
    async with collection.transaction() as (connection, collection_id):
        changed = await identities.change(connection, collection_id, identity_id, body.label, body.metadata)
    return identity_view(changed)


@router.get("/{identity_id}/templates", summary="What is stored of a person's pictures")
async def list_templates(identity_id: uuid.UUID, collection: InCollection) -> TemplatesAnswer:
    """Without embeddings, which never leave the database."""
    async with collection.transaction() as (connection, collection_id):
        await identities.get(connection, collection_id, identity_id)
        stored = await templates.list_of(connection, collection_id, identity_id)
    return TemplatesAnswer(templates=[TemplateView.model_validate(item, from_attributes=True) for item in stored])


@router.delete("/{identity_id}/templates/{template_id}", summary="Delete one picture's template")
async def delete_template(
    identity_id: uuid.UUID,
    template_id: uuid.UUID,
    collection: InCollection,
) -> TemplateDeletionAnswer:
    """The person's centroid is made anew from the others. Without any left the person stays, and is not found."""
    async with collection.transaction() as (connection, collection_id):
        await identities.lock(connection, collection_id, identity_id)
        left = await templates.remove(connection, collection_id, identity_id, template_id)
    return TemplateDeletionAnswer(template_id=template_id, templates_left=left)
