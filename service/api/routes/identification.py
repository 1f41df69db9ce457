"""POST /search"""

from fastapi import APIRouter, Request

from service.api.http.access import SearchAccess
from service.api.http.bodies import operation, read_body
from service.api.http.inputs import Inputs
from service.api.schemas.all_schemas import SearchResponse, SearchRequest
from service.api.schemas.views import search_answer
from service.api.state import EngineDependency, RegistryDependency
from service.gallery.access.audit import Action, Event
from service.recognition.identification import IdentificationRequest, identify
from service.telemetry.metrics import DECISIONS, SCORES

router = APIRouter(tags=["recognition"])


@router.post("/search", openapi_extra=operation(SearchRequest), summary="Who is this? (1:N)")
async def search(
    request: Request, registry: RegistryDependency, engine: EngineDependency, access: SearchAccess
) -> SearchResponse:
    """The `top_k` enrolled people nearest to a face, each with a decision. Nothing is stored.

    Several `images` of one person make one probe, which finds better than any of them alone.

    An empty gallery answers an empty list; a stranger gets candidates of which none is a match.
    """
    body = await read_body(request, SearchRequest)
    access.enter(body.collection)
    if body.explain:  # an index has rows of other collections, and their number would tell of them
        access.require_all_collections("`explain`")
    images = Inputs(engine, access).of_search(body)
    wish = IdentificationRequest(
        body.collection, images, body.operating_point, body.top_k, body.filter, body.explain, body.images is not None
    )
    identification = await identify(registry.database, engine, registry.resolver, wish)
    answer = search_answer(identification, registry.precision)
    matches = [any(candidate.match for candidate in result.candidates) for result in answer.results]
    for match in matches:
        DECISIONS.labels("search", str(match).lower()).inc()
    for result in answer.results:
        if result.candidates:
            SCORES.labels("search").observe(result.candidates[0].score)
    details = {"pictures": len(images), "faces": len(matches), "matches": sum(matches)}
    registry.read_audit.note(body.collection, Event(Action.SEARCH, access.actor(request), details=details))
    return answer
