"""POST /embed"""

from fastapi import APIRouter, Request

from service.api.http.access import EmbeddingsAccess
from service.api.http.bodies import operation, read_body
from service.api.schemas.all_schemas import EmbedResponse, EmbedRequest
from service.api.schemas.views import embed_answer
from service.api.state import EngineDependency, RegistryDependency
from service.gallery.access.audit import Action, Event
from service.gallery.people.collections import DEFAULT
from service.inference.engine import FaceChoice, Picture
from service.recognition.subject import require_observation, subject_face

router = APIRouter(tags=["recognition"])


@router.post("/embed", openapi_extra=operation(EmbedRequest), summary="The embeddings of a picture's faces")
async def embed(
    request: Request, registry: RegistryDependency, engine: EngineDependency, access: EmbeddingsAccess
) -> EmbedResponse:
    """For those who compare elsewhere. Nothing is stored. An embedding is biometric data: a face can be drawn from it.

    What is got here can be sent to `/register`, `/verify` and `/search` in the place of a picture, with its `model_id`.
    """
    body = await read_body(request, EmbedRequest)
    model_id = body.model_id or engine.model_id
    registry.resolver.policy_of(model_id)
    image = Picture(body.image, body.face, body.box, cropped=body.detector == "none", model_id=model_id)
    [result] = await engine.observe([image])
    if body.face is not FaceChoice.ALL:
        subject_face(image, result, "/image")
    observation = require_observation(result, "/image")
    event = Event(Action.EMBED, access.actor(request), details={"faces": len(observation.faces)})
    registry.read_audit.note(access.collection or DEFAULT, event)
    return embed_answer(observation, model_id, engine.dims[model_id], registry.precision)
