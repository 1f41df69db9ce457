"""Route of POST /predict."""

from fastapi import APIRouter, Request

from service.api.http.bodies import read_body
from service.api.http.collection_scope import SearchScope
from service.api.http.forms import body_of
from service.api.schemas.embedding import PredictRequest, PredictResponse, predict_response
from service.api.state import RequestEngine, State
from service.inference.engine import Picture

router = APIRouter(tags=["recognition"])


@router.post("/predict", openapi_extra=body_of(PredictRequest), summary="Classify a face among a closed set of people")
async def predict(request: Request, state: State, engine: RequestEngine, collection: SearchScope) -> PredictResponse:
    """Classifies faces with the configured classifier of `identity-trainer classifier fit`. Nothing is stored.

    The classifier returns one of its own people even for an unknown person; use `/search` to recognise unknown people.
    `collection` names the audit trail that records the request.
    """
    body = await read_body(request, PredictRequest)
    picture = Picture(body.image or b"", body.face, body.box, cropped=body.detector == "none")
    observation, classifier = await state.predictor(engine).predict(
        picture, body.url, collection.name, collection.actor
    )
    return predict_response(observation, classifier, body.top_k)
