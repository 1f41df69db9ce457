"""Routes of POST /identities/{id}/merge, /split and /move."""

import uuid

from fastapi import APIRouter

from service.api.http.collection_scope import ManageScope
from service.api.schemas.identities import (
    IdentityView,
    MergeRequest,
    MergeResponse,
    MoveRequest,
    SplitRequest,
    identity_view,
)
from service.api.state import State

router = APIRouter(prefix="/identities", tags=["identities"])


@router.post("/{identity_id}/merge", summary="Merge identities of the same person")
async def merge_identities(
    identity_id: uuid.UUID, body: MergeRequest, state: State, collection: ManageScope
) -> MergeResponse:
    """Moves the templates of the listed identities to this one and deletes the listed ones."""
    body.require_others(identity_id)
    merged, moved = await state.identities.merge(collection.name, identity_id, body.identities, collection.actor)
    return MergeResponse(**identity_view(merged).model_dump(), templates_moved=moved)


@router.post("/{identity_id}/split", status_code=201, summary="Split an identity that contains two people")
async def split_identity(
    identity_id: uuid.UUID, body: SplitRequest, state: State, collection: ManageScope
) -> IdentityView:
    """Creates an identity from some of the templates and returns it."""
    scope = collection.name, identity_id, body.template_ids, body.external_id
    return identity_view(await state.identities.split(*scope, body.label, body.metadata, collection.actor))


@router.post("/{identity_id}/move", summary="Move an identity to another collection")
async def move_identity(
    identity_id: uuid.UUID, body: MoveRequest, state: State, collection: ManageScope
) -> IdentityView:
    """Moves an identity to a collection with the same active model. The identity's id does not change."""
    collection.access.require_collection(body.to)
    return identity_view(await state.identities.move(collection.name, identity_id, body.to, collection.actor))
