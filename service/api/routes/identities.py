"""/identities"""

import uuid
from typing import Annotated

from fastapi import APIRouter, Query

from service.api.access import ManageAccess
from service.api.cursor import decode, encode
from service.api.dependencies import RegistryDependency
from service.api.schemas import CollectionName, DeletionAnswer, IdentitiesAnswer, IdentityView
from service.api.views import identity_view
from service.gallery import collections, identities
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
) -> IdentitiesAnswer:
    """In the order in which they were enrolled. A page begins after its cursor, whatever came or went meanwhile."""
    access.enter(collection)
    after = None if cursor is None else decode(cursor)
    async with registry.database.transaction() as connection:
        found = await collections.get(connection, collection)
        page = await identities.page(connection, found.id, limit + 1, after)
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
