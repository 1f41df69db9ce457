"""Route of POST /embed."""

from fastapi import APIRouter, Request

from service.api.http.bodies import read_body
from service.api.http.collection_scope import EmbeddingsScope
from service.api.http.forms import body_of
from service.api.schemas.embedding import EmbedRequest, EmbedResponse, embed_response
from service.api.state import RequestEngine, State
from service.inference.engine import Picture

router = APIRouter(tags=["recognition"])


@router.post("/embed", openapi_extra=body_of(EmbedRequest), summary="Embed the faces of a picture")
async def embed(request: Request, state: State, engine: RequestEngine, collection: EmbeddingsScope) -> EmbedResponse:
    """Returns embeddings for clients that compare faces themselves. Nothing is stored.

    An embedding is biometric data: a face can be reconstructed from it. It can be sent to `/register`, `/verify` and
    `/search` instead of a picture, with its `model_id`.

    `collection` names the audit trail that records the request. The operation does not read the collection; the trail
    of `default` records requests with an unknown collection.
    """
    body = await read_body(request, EmbedRequest)
    model_id = body.model_id or engine.model_id
    picture = Picture(body.image, body.face, body.box, cropped=body.detector == "none", model_id=model_id)
    observation = await state.embedder(engine).embed(picture, collection.name, collection.actor)
    return embed_response(observation, model_id, engine.dims[model_id], state.precision)
