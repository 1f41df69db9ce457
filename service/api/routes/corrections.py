"""/identities/{id}/corrections: "this is not that person\""""

import uuid

from fastapi import APIRouter, Request

from service.api.http.bodies import operation, read_body
from service.api.http.collection_scope import InCollection
from service.api.http.cursors import Cursor, Limit, cut, decode, encode
from service.api.http.inputs import Inputs
from service.api.schemas.all_schemas import CorrectionRequest, CorrectionsResponse, CorrectionView
from service.api.state import EngineDependency, RegistryDependency
from service.gallery.access.audit import Action
from service.gallery.people import corrections, identities
from service.recognition.corrections import NewCorrection

router = APIRouter(prefix="/identities/{identity_id}/corrections", tags=["gallery"])


@router.post(
    "", openapi_extra=operation(CorrectionRequest), status_code=201, summary="Say that a face is not the person's"
)
async def correct(
    request: Request,
    identity_id: uuid.UUID,
    collection: InCollection,
    registry: RegistryDependency,
    engine: EngineDependency,
) -> CorrectionView:
    """Later searches and verifications don't match the person where the probe is nearer to this face than to theirs.

    The face's embedding is kept until the correction, or the person, is deleted.
    """
    body = await read_body(request, CorrectionRequest)
    image = Inputs(engine, collection.access).of_correction(body)
    wish = NewCorrection(collection.name, identity_id, image, collection.actor)
    made = await registry.corrector(engine).correct(wish)
    return CorrectionView.model_validate(made, from_attributes=True)


@router.get("", summary="Faces that are said not to be the person's")
async def list_corrections(
    identity_id: uuid.UUID, collection: InCollection, limit: Limit = 100, cursor: Cursor = None
) -> CorrectionsResponse:
    """Without embeddings."""
    after = decode(cursor)
    async with collection.opened() as (connection, opened):
        await identities.get(connection, opened.id, identity_id)
        found = await corrections.page(connection, opened.id, identity_id, opened.model_id, limit + 1, after)
    page, next_cursor = cut(list(found), limit, encode)
    views = [CorrectionView.model_validate(item, from_attributes=True) for item in page]
    return CorrectionsResponse(corrections=views, next_cursor=next_cursor)


@router.delete("/{correction_id}", status_code=204, summary="Take a correction back")
async def delete(identity_id: uuid.UUID, correction_id: uuid.UUID, collection: InCollection) -> None:
    async with collection.transaction() as (connection, collection_id):
        await corrections.remove(connection, collection_id, identity_id, correction_id)
        details = {"taken_back": str(correction_id)}
        await collection.record(connection, collection_id, Action.CORRECT, identity_id, **details)
