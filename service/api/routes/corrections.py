"""Routes of /identities/{id}/corrections."""

import uuid

from fastapi import APIRouter

from service.api.http.collection_scope import ManageScope
from service.api.http.cursors import Cursor, Limit, decode, encode, split_page
from service.api.http.inputs import Inputs
from service.api.schemas.corrections import CorrectionRequest, CorrectionsResponse, CorrectionView, correction_view
from service.api.state import RequestEngine, State
from service.recognition.corrections import NewCorrection

router = APIRouter(prefix="/identities/{identity_id}/corrections", tags=["identities"])


@router.post("", status_code=201, summary="State that a face does not show the identity")
async def create_correction(
    identity_id: uuid.UUID, body: CorrectionRequest, state: State, engine: RequestEngine, collection: ManageScope
) -> CorrectionView:
    """Stores the face's embedding. A probe that is nearer to it than to the identity's templates does not match."""
    sample = Inputs(engine, collection.access).of_correction(body)
    request = NewCorrection(collection.name, identity_id, sample, collection.actor)
    return correction_view(await state.corrector(engine).correct(request))


@router.get("", summary="List the corrections of an identity page by page")
async def list_corrections(
    identity_id: uuid.UUID,
    state: State,
    engine: RequestEngine,
    collection: ManageScope,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> CorrectionsResponse:
    """Returns corrections without their embeddings, oldest first."""
    items = await state.corrector(engine).page(collection.name, identity_id, limit + 1, decode(cursor))
    page, next_cursor = split_page(items, limit, encode)
    return CorrectionsResponse(corrections=[correction_view(item) for item in page], next_cursor=next_cursor)


@router.delete("/{correction_id}", status_code=204, summary="Delete a correction")
async def delete_correction(
    identity_id: uuid.UUID, correction_id: uuid.UUID, state: State, engine: RequestEngine, collection: ManageScope
) -> None:
    """Deletes the correction under every model, and its crop. Later probes are decided without it."""
    await state.corrector(engine).remove(collection.name, identity_id, correction_id, collection.actor)
