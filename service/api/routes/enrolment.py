"""Route of POST /register."""

from typing import Any

from fastapi import APIRouter, Request, Response

from service.api.http.bodies import read_body
from service.api.http.collection_scope import CollectionScope, EnrolScope
from service.api.http.forms import body_of
from service.api.http.idempotency import IdempotencyKey, digest, stored_key
from service.api.http.inputs import Inputs
from service.api.schemas.enrolment import RegisterRequest, RegisterResponse, register_response
from service.api.state import RequestEngine, State
from service.recognition.enrolment_records import EnrolmentRequest, IdempotencyRequest, IdempotentReplay

router = APIRouter(tags=["recognition"])
EXISTING: dict[int | str, dict[str, Any]] = {
    200: {"model": RegisterResponse, "description": "The identity existed before"}
}


@router.post(
    "/register",
    openapi_extra=body_of(RegisterRequest),
    status_code=201,
    summary="Enrol an identity",
    responses=EXISTING,
)
async def register(
    request: Request,
    response: Response,
    state: State,
    engine: RequestEngine,
    collection: EnrolScope,
    idempotency_key: IdempotencyKey = None,
) -> RegisterResponse:
    """Stores a template for every picture whose face has sufficient quality.

    The status is 201 for a new identity and 200 for an existing one. Each picture has its own outcome. If no
    picture is accepted, the response is a problem and nothing is stored. If a request with an `Idempotency-Key` is
    repeated within a day, the first response is returned and nothing is stored.
    """
    body = await read_body(request, RegisterRequest)
    may_identify = collection.access.may_identify()
    enrolment_request = EnrolmentRequest(
        collection.name,
        body.key,
        # A label without an external id is the id; it is not a new label for an identity whose label was changed.
        None if body.external_id is None else body.label,
        body.metadata,
        Inputs(engine, collection.access).of_register(body),
        body.force,
        may_identify,
        collection.access.may_manage(),
        _idempotency(idempotency_key, body, collection),
        retain_until=body.retain_until,
        actor=collection.actor,
    )
    result = await state.enroller(engine).enrol(enrolment_request)
    if isinstance(result, IdempotentReplay):
        response.headers["Idempotency-Replayed"] = "true"
        document = RegisterResponse.model_validate(result.response)
    else:
        document = register_response(result, collection.name, may_identify)
    response.status_code = 201 if document.created else 200
    return document


def _idempotency(key: str | None, body: RegisterRequest, collection: CollectionScope) -> IdempotencyRequest | None:
    """Returns None without a key. The stored response does not name other identities, because it may outlast them."""
    if key is None:
        return None
    return IdempotencyRequest(
        stored_key(key, collection.access.key),
        digest(body),
        lambda enrolment: register_response(enrolment, collection.name, may_identify=False).model_dump(mode="json"),
    )
