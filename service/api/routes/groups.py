"""Routes of /collections/{name}/groups: groups of faces that may show the same person."""

import uuid
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from service.api.http.access import ManageAccess
from service.api.http.bodies import media_type
from service.api.http.cursors import Cursor, Limit, decode_number, encode_text, split_page
from service.api.http.job_sources import FOLDER_CONTENT, ZIP_CONTENT, JobStart, body
from service.api.routes.collections import Named
from service.api.schemas.groups import (
    GroupEnrolRequest,
    GroupEnrolResponse,
    GroupMembersResponse,
    GroupsResponse,
    group_enrol_response,
    group_view,
    member_view,
)
from service.api.schemas.jobs import JobView
from service.api.state import State
from service.errors import InvalidRequest
from service.jobs.grouping import KIND as GROUPING
from service.recognition.operating_point import OperatingPoint

router = APIRouter(prefix="/collections", tags=["groups"])
PICTURES = body(ZIP_CONTENT | FOLDER_CONTENT, required=False)
Rate = Annotated[
    float | None,
    Query(gt=0, lt=1, description="false match rate of the lowest mean similarity in a group; default: a setting"),
]
Number = Annotated[int, Path(ge=1, le=2**31 - 1, description="number of the group")]


@router.post("/{name}/groups", status_code=202, openapi_extra=PICTURES, summary="Group faces by person")
async def start_grouping_job(
    request: Request,
    response: Response,
    name: Named,
    state: State,
    access: ManageAccess,
    fmr: Rate = None,
    threshold: Annotated[float | None, Query(ge=-1, le=1, description="in place of `fmr`")] = None,
) -> JobView:
    """Groups the identities of a collection; each group may show one person.

    With a zip file (`application/zip`), or JSON with a `folder` of the server, the job first enrols every face of the
    pictures as an identity without a name. Without a body it groups the identities that the collection has. A group has
    at least two identities, and the mean similarity between them is at least that of the rate.
    `GET /collections/{name}/groups/{job_id}` returns the groups when the job is done.
    """
    access.require_collection(name)
    if fmr is not None and threshold is not None:
        raise InvalidRequest("send one of `fmr` and `threshold`", pointer="/threshold")
    options = await state.groups.options(name, OperatingPoint.from_request(fmr=fmr, threshold=threshold))
    start = JobStart(state.jobs, GROUPING, name, options, access.actor(request))
    is_empty = not media_type(request) and not await request.body()
    job = await (start.without_pictures() if is_empty else start.from_pictures(request))
    return start.answer(job, response)


@router.get("/{name}/groups/{job_id}", summary="List the groups of a job page by page")
async def list_groups(
    name: Named, job_id: uuid.UUID, state: State, access: ManageAccess, limit: Limit = 100, cursor: Cursor = None
) -> GroupsResponse:
    """Returns the groups, the largest first, each with the identity that represents it."""
    access.require_collection(name)
    items = await state.groups.page(name, job_id, limit + 1, decode_number(cursor) or 0)
    page, next_cursor = split_page(items, limit, lambda group: encode_text(str(group.number)))
    return GroupsResponse(groups=[group_view(group) for group in page], next_cursor=next_cursor)


@router.get("/{name}/groups/{job_id}/{number}", summary="List the identities of a group page by page")
async def list_group_members(
    name: Named,
    job_id: uuid.UUID,
    number: Number,
    state: State,
    access: ManageAccess,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> GroupMembersResponse:
    """Returns the identities of a group, the one that is most similar to the group first."""
    access.require_collection(name)
    items = await state.groups.members(name, job_id, number, limit + 1, decode_number(cursor) or 0)
    page, next_cursor = split_page(items, limit, lambda member: encode_text(str(member.position)))
    return GroupMembersResponse(members=[member_view(member) for member in page], next_cursor=next_cursor)


@router.post("/{name}/groups/{job_id}/{number}/enrol", summary="Enrol a group under a name")
async def enrol_group(
    request: Request,
    name: Named,
    job_id: uuid.UUID,
    number: Number,
    body: GroupEnrolRequest,
    state: State,
    access: ManageAccess,
) -> GroupEnrolResponse:
    """Merges the unnamed identities of a group into the identity with this `external_id`, which is created if needed.

    Identities of the group that have names stay as they are. One request merges up to 500 identities.
    """
    access.require_collection(name)
    return group_enrol_response(await state.groups.enrol(name, job_id, number, body.name, access.actor(request)))
