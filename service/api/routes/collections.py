"""GET and POST /collections"""

from fastapi import APIRouter, Request

from service.api.bodies import operation, read_body
from service.api.dependencies import RegistryDependency
from service.api.schemas import CollectionBody, CollectionsAnswer, CollectionView
from service.gallery import collections

router = APIRouter(prefix="/collections", tags=["gallery"])


@router.get("", summary="All collections")
async def list_collections(registry: RegistryDependency) -> CollectionsAnswer:
    async with registry.database.transaction() as connection:
        found = await collections.list_all(connection)
    return CollectionsAnswer(collections=[_view(collection, count) for collection, count in found])


@router.post("", openapi_extra=operation(CollectionBody), status_code=201, summary="Make a collection")
async def create_collection(request: Request, registry: RegistryDependency) -> CollectionView:
    """A namespace of identities, bound to the model that the service runs."""
    body = await read_body(request, CollectionBody)
    async with registry.database.transaction() as connection:
        made = await collections.create(connection, body.name, registry.engine.model_id)
    return _view(made, 0)


def _view(collection: collections.Collection, count: int) -> CollectionView:
    return CollectionView(
        name=collection.name, model_id=collection.model_id, identity_count=count, created_at=collection.created_at
    )
