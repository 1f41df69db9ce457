"""/jobs: work that takes longer than a request"""

import asyncio
import csv
import io
import uuid
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from sqlalchemy.ext.asyncio import AsyncConnection

from service.api.http.bodies import JSON, media_type, read_body
from service.api.http.collection_scope import EnrolInCollection, CollectionScope
from service.api.http.cursors import Cursor, Limit, cut, decode, decode_number, encode, encode_text
from service.api.schemas.all_schemas import Detector
from service.api.schemas.jobs import (
    FolderRequest,
    JobDetail,
    JobRowsResponse,
    JobRowView,
    JobsResponse,
    JobView,
    job_detail,
    job_view,
    row_view,
)
from service.api.state import RegistryDependency
from service.errors import InvalidRequest, JobNotFound, UnsupportedMediaType
from service.gallery.access.audit import Action
from service.gallery.jobs import jobs
from service.gallery.jobs.jobs import Job, JobRef, RowStatus, State
from service.inference.engine import FaceChoice
from service.jobs.batches import enqueue_preparation
from service.jobs.bulk_enrolment import KIND
from service.jobs.sources import Archive, allowed_folder

router = APIRouter(prefix="/jobs", tags=["jobs"])
ZIP = "application/zip"
ENROLMENTS = "/enrolments"
BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            ZIP: {"schema": {"type": "string", "format": "binary"}},
            JSON: {"schema": FolderRequest.model_json_schema()},
        },
    }
}
ROWS_AT_ONCE = 1000


@router.post(ENROLMENTS, status_code=202, openapi_extra=BODY, summary="Enrol many people in the background")
async def enrol(
    request: Request,
    response: Response,
    registry: RegistryDependency,
    collection: EnrolInCollection,
    face: Annotated[FaceChoice, Query(description="which face of each picture; one of them")] = FaceChoice.ONLY,
    detector: Annotated[Detector, Query()] = "yolo",
    force: Annotated[bool, Query(description="enrol faces that the quality gate refuses all the same")] = False,
) -> JobView:
    """Send a zip of `<person>/<picture>.jpg` as it is (`application/zip`), or name a folder of the server's.

    A `people.csv` at its top (`file,external_id`, also `label,metadata`) says in the folders' place who is who. The
    answer comes at once; `GET /jobs/{id}` tells how far it is, `/jobs/{id}/rows` what became of each picture.
    """
    wish: dict[str, Any] = {"face": _one_face(face).value, "detector": detector, "force": force}
    wish |= {"actor": collection.actor.to_json(), "named": collection.access.may_name_others()}
    async with collection.transaction() as (_, collection_id):
        place = JobRef(collection_id, uuid.uuid4())
    kind = media_type(request)
    if kind == ZIP:
        wish["uploads"] = registry.uploads.name
        file = await registry.uploads.receive(place.id, request.stream())
    elif kind == JSON:
        body = await read_body(request, FolderRequest)
        wish["folder"] = str(allowed_folder(registry.import_root, body.folder))
        file = None
    else:
        raise UnsupportedMediaType(f"Content-Type {kind or '(none)'}: send a {ZIP}, or {JSON} with a `folder`")
    try:
        if file is not None:
            await asyncio.to_thread(lambda: Archive(file).close())
        async with registry.database.transaction(collection_id=place.collection_id) as connection:
            job = await jobs.create(connection, place, KIND, wish)
            await enqueue_preparation(registry.queue, connection, job)
            await collection.record(connection, place.collection_id, Action.JOB_START, job=str(job.id))
    except BaseException:
        registry.uploads.drop(place.id)
        raise
    response.headers["Location"] = f"/jobs/{job.id}?collection={collection.name}"
    return job_view(job)


@router.get("", summary="Jobs of a collection, newest first")
async def list_jobs(
    collection: EnrolInCollection,
    limit: Limit = 100,
    cursor: Cursor = None,
    state: Annotated[State | None, Query(description="only jobs in this state")] = None,
) -> JobsResponse:
    after = decode(cursor)
    async with collection.transaction() as (connection, collection_id):
        found = await jobs.page(connection, collection_id, limit + 1, after, state, collection.access.own_jobs_only)
    page, next_cursor = cut(found, limit, encode)
    return JobsResponse(jobs=[job_view(job) for job in page], next_cursor=next_cursor)


@router.get("/{job_id}", summary="How far a job is")
async def read(job_id: uuid.UUID, collection: EnrolInCollection) -> JobDetail:
    async with collection.transaction() as (connection, collection_id):
        place = JobRef(collection_id, job_id)
        return job_detail(await _job(connection, place, collection), await jobs.progress(connection, place))


@router.post("/{job_id}/cancel", summary="End a job")
async def cancel(job_id: uuid.UUID, registry: RegistryDependency, collection: EnrolInCollection) -> JobView:
    """Who is enrolled already stays so; rows that were not done yet stay undone."""
    async with collection.transaction() as (connection, collection_id):
        place = JobRef(collection_id, job_id)
        await _job(connection, place, collection)
        cancelled = await jobs.cancel(connection, place)
        await collection.record(connection, collection_id, Action.JOB_CANCEL, job=str(job_id))
    registry.uploads.drop(job_id)
    return job_view(cancelled)


@router.get("/{job_id}/rows", summary="What became of each row, page by page")
async def list_rows(
    job_id: uuid.UUID,
    collection: EnrolInCollection,
    limit: Limit = 100,
    cursor: Cursor = None,
    status: Annotated[RowStatus | None, Query(description="only rows with this status")] = None,
) -> JobRowsResponse:
    after = decode_number(cursor)
    async with collection.transaction() as (connection, collection_id):
        place = JobRef(collection_id, job_id)
        await _job(connection, place, collection)
        found = await jobs.rows_page(connection, place, limit + 1, -1 if after is None else after, status)
    page, next_cursor = cut(found, limit, lambda row: encode_text(str(row.number)))
    return JobRowsResponse(rows=[row_view(row) for row in page], next_cursor=next_cursor)


@router.get("/{job_id}/rows.jsonl", summary="Every row, one JSON document a line", response_class=StreamingResponse)
async def rows_as_lines(
    job_id: uuid.UUID, collection: EnrolInCollection, status: Annotated[RowStatus | None, Query()] = None
) -> StreamingResponse:
    place = await _place(job_id, collection)
    lines = (row.model_dump_json() + "\n" async for row in _all_rows(collection, place, status))
    return StreamingResponse(lines, media_type="application/x-ndjson")


@router.get("/{job_id}/rows.csv", summary="Every row as CSV", response_class=StreamingResponse)
async def rows_as_csv(
    job_id: uuid.UUID, collection: EnrolInCollection, status: Annotated[RowStatus | None, Query()] = None
) -> StreamingResponse:
    place = await _place(job_id, collection)

    async def lines() -> AsyncIterator[str]:
        yield _csv_line(list(JobRowView.model_fields))
        async for row in _all_rows(collection, place, status):
            yield _csv_line(["" if value is None else str(value) for value in row.model_dump(mode="json").values()])

    return StreamingResponse(lines(), media_type="text/csv; charset=utf-8")


async def _job(connection: AsyncConnection, place: JobRef, collection: CollectionScope) -> Job:
    """The job, where the caller may know of it. Raises JobNotFound."""
    job = await jobs.get(connection, place)
    if (key_id := collection.access.own_jobs_only) is not None and job.request["actor"]["key_id"] != str(key_id):
        raise JobNotFound(f"there is no job {place.id} of this key in this collection")
    return job


async def _place(job_id: uuid.UUID, collection: CollectionScope) -> JobRef:
    """Raises JobNotFound, before the first line is sent."""
    async with collection.transaction() as (connection, collection_id):
        place = JobRef(collection_id, job_id)
        await _job(connection, place, collection)
    return place


async def _all_rows(collection: CollectionScope, place: JobRef, status: RowStatus | None) -> AsyncIterator[JobRowView]:
    """A transaction for each page, so that a slow reader keeps nothing open."""
    after = -1
    while True:
        async with collection.transaction() as (connection, _):
            rows = await jobs.rows_page(connection, place, ROWS_AT_ONCE, after, status)
        for row in rows:
            yield row_view(row)
        if len(rows) < ROWS_AT_ONCE:
            return
        after = rows[-1].number


def _csv_line(values: list[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(values)
    return line.getvalue()


def _one_face(face: FaceChoice) -> FaceChoice:
    if face in (FaceChoice.ALL, FaceChoice.BOX):
        raise InvalidRequest("a job enrols one face of each picture: strongest, largest or only", pointer="/face")
    return face
