"""POST /verify"""

from fastapi import APIRouter, Request

from service.api.http.access import VerifyAccess
from service.api.http.bodies import operation, read_body
from service.api.http.inputs import Inputs
from service.api.schemas.all_schemas import VerifyResponse, VerifyRequest
from service.api.schemas.views import verify_answer
from service.api.state import EngineDependency, RegistryDependency
from service.gallery.access.audit import Action, Event
from service.recognition.verification import IdentityReference, verify_identity, verify_images
from service.telemetry.metrics import DECISIONS, SCORES

router = APIRouter(tags=["recognition"])


@router.post("/verify", openapi_extra=operation(VerifyRequest), summary="Is this the same person? (1:1)")
async def verify(
    request: Request, registry: RegistryDependency, engine: EngineDependency, access: VerifyAccess
) -> VerifyResponse:
    """Compare two pictures, or one picture with an enrolled identity. Nothing is stored.

    Ask for a false match rate (`fmr`), for the false positive rate of a search in the collection (`fpir`) or, if you
    must, for a `threshold`. Without any of them the collection's default applies, else the service's.
    """
    body = await read_body(request, VerifyRequest)
    access.enter(body.collection)
    asked = body.operating_point
    image_a, image_b = Inputs(engine, access).of_verify(body)
    if image_b is not None:
        given_model = image_a.model_id or image_b.model_id
        decision, model_id = await registry.resolver.for_pair(
            registry.database, body.collection, asked, given_model
        )
        verification = await verify_images(engine, decision, model_id, image_a, image_b)
    else:
        reference = IdentityReference(body.collection, body.identity_id, body.external_id)
        verification = await verify_identity(registry.database, engine, registry.resolver, asked, image_a, reference)
    identity_id = None if verification.identity is None else verification.identity.id
    event = Event(Action.VERIFY, access.actor(request), identity_id, {"match": verification.match})
    registry.read_audit.note(body.collection, event)
    SCORES.labels("verify").observe(verification.score)
    DECISIONS.labels("verify", str(verification.match).lower()).inc()
    return verify_answer(verification, registry.precision)
