"""POST /identities/{id}/merge, /split and /move"""

import uuid

from fastapi import APIRouter, Request

from service.api.http.bodies import operation, read_body
from service.api.http.collection_scope import InCollection
from service.api.schemas.all_schemas import IdentityView, MergeResponse, MergeRequest, MoveRequest, SplitRequest
from service.api.schemas.views import identity_view
from service.api.state import RegistryDependency
from service.errors import OtherModel
from service.gallery.access.audit import Action
from service.gallery.people import collections, identities, merge_split_move

router = APIRouter(prefix="/identities", tags=["gallery"])


@router.post(
    "/{identity_id}/merge", openapi_extra=operation(MergeRequest), summary="Make one person of several who are the same"
)
async def merge(request: Request, identity_id: uuid.UUID, collection: InCollection) -> MergeResponse:
    """The person keeps label, metadata and id, and gets the others' templates; the others are deleted."""
    body = await read_body(request, MergeRequest)
    body.require_others(identity_id)
    async with collection.transaction() as (connection, collection_id):
        await collections.share_model_lock(connection, collection_id)
        moved = await merge_split_move.merge(connection, collection_id, identity_id, body.identities)
        merged = await identities.get(connection, collection_id, identity_id)
        others = sorted(map(str, body.identities))
        await collection.record(connection, collection_id, Action.MERGE, identity_id, identities=others)
    return MergeResponse(**identity_view(merged).model_dump(), templates_moved=moved)


@router.post(
    "/{identity_id}/split",
    openapi_extra=operation(SplitRequest),
    status_code=201,
    summary="Make another person of some of one's templates",
)
async def split(request: Request, identity_id: uuid.UUID, collection: InCollection) -> IdentityView:
    """Where pictures of two people were enrolled as one. Answers the new person."""
    body = await read_body(request, SplitRequest)
    async with collection.opened() as (connection, found):
        await collections.share_model_lock(connection, found.id)
        made = await merge_split_move.split(
            connection, found, identity_id, body.template_ids, body.external_id, body.label, body.metadata
        )
        person = await identities.get(connection, found.id, made)
        await collection.record(connection, found.id, Action.SPLIT, identity_id, made=str(made))
    return identity_view(person)


@router.post("/{identity_id}/move", openapi_extra=operation(MoveRequest), summary="Take a person to another collection")
async def move(
    request: Request,
    identity_id: uuid.UUID,
    collection: InCollection,
    registry: RegistryDependency,
) -> IdentityView:
    """Of the same model. The person's id stays as it is."""
    body = await read_body(request, MoveRequest)
    collection.access.enter(body.to)
    async with registry.database.transaction() as connection:
        origin = await collections.get(connection, collection.name)
        target = await collections.get_held(connection, body.to, "/to")
        if origin.model_id != target.model_id:
            raise OtherModel(
                f"{origin.name!r} belongs to model {origin.model_id!r} and {target.name!r} to {target.model_id!r}: "
                "register the person's pictures there",
                pointer="/to",
            )
        if origin.id != target.id:
            await merge_split_move.move(connection, origin, target, identity_id)
        moved = await identities.get(connection, target.id, identity_id)
        sides = {origin.id: (Action.MOVE_OUT, target.id), target.id: (Action.MOVE_IN, origin.id)}
        for side in sorted(sides):  # in one order, so that two who move the opposite ways don't wait for each other
            action, other = sides[side]
            await collection.record(connection, side, action, identity_id, other=str(other))
    return identity_view(moved)
