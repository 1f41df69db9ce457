"""Route of POST /verify."""

from fastapi import APIRouter, Request

from service.api.http.bodies import read_body
from service.api.http.collection_scope import VerifyScope
from service.api.http.forms import body_of
from service.api.http.inputs import Inputs
from service.api.schemas.verification import VerifyRequest, VerifyResponse, verify_response
from service.api.state import RequestEngine, State
from service.recognition.verification import VerificationRequest

router = APIRouter(tags=["recognition"])


@router.post("/verify", openapi_extra=body_of(VerifyRequest), summary="Compare two faces (1:1)")
async def verify(request: Request, state: State, engine: RequestEngine, collection: VerifyScope) -> VerifyResponse:
    """Compares two pictures, or one picture with an enrolled identity. Nothing is stored.

    Send a false match rate (`fmr`), the false positive identification rate of a search of the collection (`fpir`), or a
    `threshold`. Without these fields the collection's default applies, or the
    service's default if the collection has none.
    """
    body = await read_body(request, VerifyRequest)
    sample_a, sample_b = Inputs(engine, collection.access).of_verify(body)
    verification = await state.verifier(engine).verify(
        VerificationRequest(
            collection.name,
            body.operating_point,
            sample_a,
            sample_b,
            body.identity_id,
            body.external_id,
            collection.actor,
        )
    )
    return verify_response(verification, state.precision)
