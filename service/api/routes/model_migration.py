"""Routes of /collections/{name}/model-migration: replaces a collection's model without new photos."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from service.api.http.access import ManageAccess
from service.api.http.cursors import Cursor, Limit, decode, encode, split_page
from service.api.schemas.fields import CollectionName, ModelId
from service.api.schemas.jobs import JobView, job_view
from service.api.schemas.model_migration import (
    ActivationRequest,
    MissingIdentitiesResponse,
    MissingIdentity,
    ModelMigrationDeletionResponse,
    ModelMigrationRequest,
    ModelMigrationView,
    migration_view,
)
from service.api.state import State

router = APIRouter(prefix="/collections/{name}/model-migration", tags=["models"])


class NamedCollection:
    """The collection of the path and the caller.

    Raises:
        NotAllowed: the caller's key is restricted to another collection.
    """

    def __init__(self, request: Request, name: Annotated[CollectionName, Path()], access: ManageAccess) -> None:
        access.require_collection(name)
        self.name, self.actor = name, access.actor(request)


Named = Annotated[NamedCollection, Depends()]


@router.get("", summary="Read the state of a model migration")
async def read_model_migration(named: Named, state: State) -> ModelMigrationView:
    """Returns both models, the number of identities that are missing under the secondary model, and the last job.

    The count takes about a second for a million identities.
    """
    return migration_view(await state.model_migration.read(named.name))


@router.post("", status_code=202, summary="Start a model migration")
async def start_model_migration(response: Response, named: Named, body: ModelMigrationRequest, state: State) -> JobView:
    """Embeds every new face with both models from now on, and starts a job that embeds the stored crops.

    The collection is searched by its active model until the secondary model has embedded every identity; then the two
    are exchanged in one transaction. The former model becomes the secondary one and can be activated again until it is
    deleted. An identity without stored crops (`store_crops`) needs a new photo; `/model-migration/missing` lists these.
    The request can be repeated to embed what is still missing.
    """
    job = await state.model_migration.start(named.name, body.model_id, body.auto_activate, named.actor)
    response.headers["Location"] = f"/jobs/{job.id}?collection={named.name}"
    return job_view(job)


@router.get("/missing", summary="List the identities that need new photos, page by page")
async def list_missing_identities(
    named: Named, state: State, limit: Limit = 100, cursor: Cursor = None
) -> MissingIdentitiesResponse:
    """Returns identities with a template of the active model and none of the secondary model."""
    items = await state.model_migration.missing(named.name, limit + 1, decode(cursor))
    page, next_cursor = split_page(items, limit, encode)
    identities = [MissingIdentity(identity_id=item.id, external_id=item.external_id, label=item.label) for item in page]
    return MissingIdentitiesResponse(identities=identities, next_cursor=next_cursor)


@router.post("/activate", summary="Exchange active and secondary model")
async def activate_model(named: Named, body: ActivationRequest, state: State) -> ModelMigrationView:
    """Exchanges the models in one transaction; a second request reverts it. Each search uses one model only."""
    return migration_view(await state.model_migration.activate(named.name, body.model_id, body.force, named.actor))


@router.delete("", summary="Delete the secondary model's data")
async def delete_secondary_model(
    named: Named,
    state: State,
    model_id: Annotated[
        ModelId | None, Query(description="the secondary model; the request is refused if it is another one")
    ] = None,
    force: Annotated[bool, Query(description="delete although identities have templates of this model only")] = False,
) -> ModelMigrationDeletionResponse:
    """Deletes the templates, centroids and corrections of the secondary model; its index is dropped within a minute."""
    deleted_model, deleted = await state.model_migration.drop(named.name, model_id, force, named.actor)
    return ModelMigrationDeletionResponse(model_id=deleted_model, deleted=deleted)
