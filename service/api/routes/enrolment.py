"""POST /register"""

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request, Response

from service.api.access import EnrolAccess
from service.api.bodies import operation, read_body
from service.api.dependencies import EngineDependency, RegistryDependency
from service.api.schemas import BoxCorners, RegisterAnswer, RegisterBody
from service.api.views import register_answer
from service.inference.engine import ImageInput
from service.recognition.enrolment import EnrolmentRequest, enrol

router = APIRouter(tags=["recognition"])
KNOWN: dict[int | str, dict[str, Any]] = {200: {"model": RegisterAnswer, "description": "The identity existed already"}}


@router.post(
    "/register", openapi_extra=operation(RegisterBody), status_code=201, summary="Enrol a person", responses=KNOWN
)
async def register(
    request: Request,
    response: Response,
    registry: RegistryDependency,
    engine: EngineDependency,
    access: EnrolAccess,
) -> RegisterAnswer:
    """Store a template for every picture whose face is good enough; 201 for a new identity, 200 for a known one.

    Each picture has an outcome of its own. Where none is accepted the answer is a problem and nothing is stored.
    """
    body = await read_body(request, RegisterBody)
    access.enter(body.collection)
    boxes: Sequence[BoxCorners | None] = body.boxes or [None] * len(body.images)
    images = [
        ImageInput(data, body.face, box, cropped=body.detector == "none")
        for data, box in zip(body.images, boxes, strict=True)
    ]
    wish = EnrolmentRequest(body.collection, body.key, body.label, body.metadata, images)
    enrolment = await enrol(registry.database, engine, registry.gate, wish)
    response.status_code = 201 if enrolment.created else 200
    return register_answer(enrolment, body.collection)
