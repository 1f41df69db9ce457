"""POST /predict"""

from fastapi import APIRouter, Request

from service.api.http.access import SearchAccess
from service.api.http.bodies import operation, read_body
from service.api.http.picture_urls import fetch
from service.api.schemas.all_schemas import PredictResponse, PredictRequest
from service.api.schemas.views import prediction
from service.api.state import EngineDependency, RegistryDependency
from service.errors import NoClassifier
from service.gallery.access.audit import Action, Event
from service.gallery.people.collections import DEFAULT
from service.inference.engine import FaceChoice, Picture
from service.recognition.subject import require_observation, subject_face

router = APIRouter(tags=["recognition"])


@router.post("/predict", openapi_extra=operation(PredictRequest), summary="Which of a closed set of people is this?")
async def predict(
    request: Request, registry: RegistryDependency, engine: EngineDependency, access: SearchAccess
) -> PredictResponse:
    """By a classifier that the trainer fitted, where the operator configured one. Nothing is stored.

    One of its people is always named, also for a stranger: to tell those, use `/search`.
    """
    body = await read_body(request, PredictRequest)
    classes = registry.classifier
    if classes is None:
        raise NoClassifier("no classifier is configured: `python -m trainer classifier fit` makes one")
    data, place = body.image, "/image"
    if body.url is not None:
        data, place = await fetch(body.url, classes.allowed_url_hosts, classes.max_image_bytes), "/url"
    assert data is not None
    model_id = classes.classifier.manifest.embedder
    image = Picture(data, body.face, body.box, cropped=body.detector == "none", model_id=model_id)
    [result] = await engine.observe([image])
    if body.face is not FaceChoice.ALL:
        subject_face(image, result, place)
    observation = require_observation(result, place)
    event = Event(Action.PREDICT, access.actor(request), details={"faces": len(observation.faces)})
    registry.read_audit.note(access.collection or DEFAULT, event)
    return prediction(observation, classes.classifier, body.top_k)
