"""POST /register"""

from typing import Any

from fastapi import APIRouter, Request, Response

from service.api.http.access import EnrolAccess
from service.api.http.bodies import operation, read_body
from service.api.http.idempotency import IdempotencyKey, digest
from service.api.http.inputs import Inputs
from service.api.schemas.all_schemas import RegisterResponse, RegisterRequest
from service.api.schemas.views import register_answer
from service.api.state import EngineDependency, RegistryDependency
from service.recognition.enrolment import Enrolment, EnrolmentRequest, IdempotencyRequest, IdempotentReplay

router = APIRouter(tags=["recognition"])
KNOWN: dict[int | str, dict[str, Any]] = {200: {"model": RegisterResponse, "description": "The identity existed already"}}


@router.post(
    "/register", openapi_extra=operation(RegisterRequest), status_code=201, summary="Enrol a person", responses=KNOWN
)
async def register(
    request: Request,
    response: Response,
    registry: RegistryDependency,
    engine: EngineDependency,
    access: EnrolAccess,
    idempotency_key: IdempotencyKey = None,
) -> RegisterResponse:
    """Store a template for every picture whose face is good enough; 201 for a new identity, 200 for a known one.

    Each picture has an outcome of its own. Where none is accepted the answer is a problem and nothing is stored. A
    request with an `Idempotency-Key` that comes again within a day gets the answer of the first and stores nothing.
    """
    body = await read_body(request, RegisterRequest)
    access.enter(body.collection)
    images = Inputs(engine, access).of_register(body)
    once = None
    named = access.may_name_others()
    if idempotency_key is not None:
        once = IdempotencyRequest(idempotency_key, digest(body), lambda enrolment: _kept(enrolment, body))
    wish = EnrolmentRequest(
        body.collection,
        body.key,
        body.label,
        body.metadata,
        images,
        body.force,
        named,
        once,
        retain_until=body.retain_until,
        actor=access.actor(request),
    )
    result = await registry.enroller(engine).enrol(wish)
    if isinstance(result, IdempotentReplay):
        response.headers["Idempotency-Replayed"] = "true"
        answer = RegisterResponse.model_validate(result.answer)
    else:
        answer = register_answer(result, body.collection, named)
    response.status_code = 201 if answer.created else 200
    return answer


def _kept(enrolment: Enrolment, body: RegisterRequest) -> dict[str, Any]:
    """The answer without the names of others: it may be kept longer than they are enrolled."""
    return register_answer(enrolment, body.collection, named=False).model_dump(mode="json")
