"""GET and DELETE /identities/{id}"""

import uuid
from typing import Annotated

from fastapi import APIRouter, Query

from service.api.dependencies import RegistryDependency
from service.api.schemas import CollectionName, DeletionAnswer, IdentityView
from service.api.views import identity_view
from service.gallery import collections, identities

router = APIRouter(prefix="/identities", tags=["gallery"])
InCollection = Annotated[CollectionName, Query()]


@router.get("/{identity_id}", summary="One enrolled person")
async def read(
    identity_id: uuid.UUID, registry: RegistryDependency, collection: InCollection = "default"
) -> IdentityView:
    async with registry.database.transaction() as connection:
        found = await collections.get(connection, collection)
        return identity_view(await identities.get(connection, found.id, identity_id))


@router.delete("/{identity_id}", summary="Delete a person with all templates")
async def delete(
    identity_id: uuid.UUID, registry: RegistryDependency, collection: InCollection = "default"
) -> DeletionAnswer:
    async with registry.database.transaction() as connection:
        found = await collections.get(connection, collection)
        deleted = await identities.remove(connection, found.id, identity_id)
    return DeletionAnswer(identity_id=identity_id, templates_deleted=deleted)
