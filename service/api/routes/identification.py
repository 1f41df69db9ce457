"""Route of POST /search."""

from fastapi import APIRouter, Request

from service.api.http.bodies import read_body
from service.api.http.collection_scope import SearchScope
from service.api.http.forms import body_of
from service.api.http.inputs import Inputs
from service.api.schemas.identification import SearchRequest, SearchResponse, search_response
from service.api.state import RequestEngine, State
from service.gallery.access.scopes import Scope
from service.recognition.identification import IdentificationRequest

router = APIRouter(tags=["recognition"])


@router.post("/search", openapi_extra=body_of(SearchRequest), summary="Search for a face in a collection (1:N)")
async def search(request: Request, state: State, engine: RequestEngine, collection: SearchScope) -> SearchResponse:
    """Returns the `top_k` identities nearest to a face, each with a decision.

    Several `images` of one person are fused into one probe, which is more accurate than a single picture. The search of
    an empty collection returns no candidates. For a person who is not enrolled, `match` is false for every candidate,
    except for a false positive; likewise for a face whose quality does not suffice (`quality_reasons`).
    Nothing is stored, except with `remember`: a face that matches no identity becomes an identity without a name, so
    that a later search recognises it.
    """
    body = await read_body(request, SearchRequest)
    if body.explain:  # the plan contains numbers of rows of other collections
        collection.access.require_all_collections("`explain`")
    if body.remember:
        collection.access.require_scope(Scope.ENROL, "/remember")
    wanted = IdentificationRequest(
        collection=collection.name,
        samples=Inputs(engine, collection.access).of_search(body),
        requested=body.operating_point,
        top_k=body.top_k,
        metadata_filter=body.filter,
        with_metadata="metadata" in body.fields,
        explain=body.explain,
        is_list=body.images is not None,
        keep_crops=body.remember,
        force=body.force,
        actor=collection.actor,
    )
    found = await state.identifier(engine).identify(wanted)
    remembered = await state.unknown_faces(engine).remember(wanted, found) if body.remember else None
    return search_response(found, state.precision, remembered)
