"""/identities"""

import uuid
from typing import Annotated

from fastapi import APIRouter, Query, Request

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
InCollection = Annotated[CollectionName, Query()]


@router.get("", summary="The enrolled people, page by page")
async def list_identities(
    registry: RegistryDependency,
    access: ManageAccess,
    collection: InCollection = DEFAULT,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: Annotated[str | None, Query(max_length=200, description="`next_cursor` of the page before")] = None,
    label: Annotated[Name | None, Query(description="only people with exactly this label")] = None,
    external_id: Annotated[Name | None, Query(description="only the person with this id of yours")] = None,
) -> IdentitiesAnswer:
    """In the order in which they were enrolled. A page begins after its cursor, whatever came or went meanwhile."""
    access.enter(collection)
    after = None if cursor is None else decode(cursor)
    async with registry.database.transaction() as connection:
        found = await collections.get(connection, collection)
        page = await identities.page(connection, found.id, limit + 1, after, label, external_id)
    is_last = len(page) <= limit
    views = [identity_view(identity) for identity in page[:limit]]
    return IdentitiesAnswer(identities=views, next_cursor=None if is_last else encode(page[limit - 1]))


@router.get("/{identity_id}", summary="One enrolled person")
async def read(
    identity_id: uuid.UUID, registry: RegistryDependency, access: ManageAccess, collection: InCollection = DEFAULT
) -> IdentityView:
    access.enter(collection)
    async with registry.database.transaction() as connection:
        found = await collections.get(connection, collection)
        return identity_view(await identities.get(connection, found.id, identity_id))


@router.delete("/{identity_id}", summary="Delete a person with all templates")
async def delete(
    identity_id: uuid.UUID, registry: RegistryDependency, access: ManageAccess, collection: InCollection = DEFAULT
) -> DeletionAnswer:
    access.enter(collection)
    async with registry.database.transaction() as connection:
        found = await collections.get(connection, collection)
        deleted = await identities.remove(connection, found.id, identity_id)
    return DeletionAnswer(identity_id=identity_id, templates_deleted=deleted)


@router.patch("/{identity_id}", openapi_extra=operation(IdentityChange), summary="Change a person's label or metadata")
async def change(
    request: Request,
    identity_id: uuid.UUID,
    registry: RegistryDependency,
    access: ManageAccess,
    collection: InCollection = DEFAULT,
) -> IdentityView:
    access.enter(collection)
    body = await read_body(request, IdentityChange)
    async with registry.database.transaction() as connection:
        found = await collections.get(connection, collection)
        changed = await identities.change(connection, found.id, identity_id, body.label, body.metadata)
    return identity_view(changed)


@router.get("/{identity_id}/templates", summary="What is stored of a person's pictures")
async def list_templates(
    identity_id: uuid.UUID, registry: RegistryDependency, access: ManageAccess, collection: InCollection = DEFAULT
) -> TemplatesAnswer:
    """Without embeddings, which never leave the database."""
    access.enter(collection)
    async with registry.database.transaction() as connection:
        found = await collections.get(connection, collection)
        await identities.get(connection, found.id, identity_id)
        stored = await templates.list_of(connection, found.id, identity_id)
    return TemplatesAnswer(templates=[TemplateView.model_validate(item, from_attributes=True) for item in stored])


@router.delete("/{identity_id}/templates/{template_id}", summary="Delete one picture's template")
async def delete_template(
    identity_id: uuid.UUID,
    template_id: uuid.UUID,
    registry: RegistryDependency,
    access: ManageAccess,
    collection: InCollection = DEFAULT,
) -> TemplateDeletionAnswer:
    """The person's centroid is made anew from the others. Without any left the person stays, and is not found."""
    access.enter(collection)
    async with registry.database.transaction() as connection:
        found = await collections.get(connection, collection)
        await identities.lock(connection, found.id, identity_id)
        left = await templates.remove(connection, found.id, identity_id, template_id)
    return TemplateDeletionAnswer(template_id=template_id, templates_left=left)
