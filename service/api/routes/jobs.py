"""Routes of /jobs: work that takes longer than a request."""

import csv
import io
import uuid
from collections.abc import AsyncIterator
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from service.api.http.collection_scope import CollectionScope, EnrolScope
from service.api.http.cursors import Cursor, Limit, decode, decode_number, encode, encode_text, split_page
from service.api.http.job_sources import FOLDER_CONTENT, ZIP_CONTENT, JobStart, body
from service.api.schemas.fields import Detector, ModelId
from service.api.schemas.jobs import (
    JobDetail,
    JobRowsResponse,
    JobRowView,
    JobsResponse,
    JobView,
    job_detail,
    job_view,
    row_view,
)
from service.api.state import State
from service.errors import InvalidRequest
from service.gallery.jobs.records import JobState, RowStatus
from service.inference.engine import FaceChoice
from service.jobs.administration import JobAccess
from service.jobs.bulk_enrolment import KIND
from service.jobs.embedding_enrolment import KIND as EMBEDDINGS

router = APIRouter(prefix="/jobs", tags=["jobs"])
PICTURES, ARCHIVE = body(ZIP_CONTENT | FOLDER_CONTENT), body(ZIP_CONTENT)
NameEncoding = Literal["utf-8", "cp437", "cp850", "cp866", "cp932", "cp949", "cp1252", "big5", "gbk"]
"""The code pages of Western, Cyrillic, Japanese, Korean and Chinese systems."""
ENCODING = (
    "encoding of file names in the zip file that are not marked as UTF-8, for example `cp932` for Shift-JIS; "
    "default: UTF-8 if they are valid, otherwise `cp437`"
)
PEOPLE = (
    "`folders`: the name of a picture's folder is the person, unless there is a `people.csv`; `regions`: the named "
    "face regions in the XMP of each picture are its people, as digiKam, Lightroom, Picasa and Apple Photos write them"
)
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


@router.post("/enrolments", status_code=202, openapi_extra=PICTURES, summary="Enrol many identities in the background")
async def start_enrolment_job(
    request: Request,
    response: Response,
    state: State,
    collection: EnrolScope,
    face: Annotated[FaceChoice, Query(description="the face of each picture: strongest, largest or only")] = (
        FaceChoice.ONLY
    ),
    detector: Annotated[Detector, Query()] = "yolo",
    force: Annotated[bool, Query(description="enrol faces that the quality limits refuse")] = False,
    encoding: Annotated[NameEncoding | None, Query(description=ENCODING)] = None,
    people: Annotated[Literal["folders", "regions"], Query(description=PEOPLE)] = "folders",
) -> JobView:
    """Enrols the pictures `<person>/<picture>.jpg` of a zip file or of a folder of the server.

    The body is the zip file (`application/zip`) or JSON with the `folder`. A `people.csv` in the top folder (columns
    `file,external_id`, optionally `label,metadata,box`), or COCO annotations in `annotations.json`, assign pictures to
    identities instead. `GET /jobs/{id}` returns the progress, `GET /jobs/{id}/rows` the result of each picture.
    """
    if face in (FaceChoice.ALL, FaceChoice.BOX):
        raise InvalidRequest("a job uses one face of each picture; send strongest, largest or only", pointer="/face")
    options = {"face": face.value, "detector": detector, "force": force, "named": collection.access.may_identify()}
    options |= {"manages": collection.access.may_manage(), "encoding": encoding, "people": people}
    start = JobStart(state.jobs, KIND, collection.name, options, collection.actor)
    return start.answer(await start.from_pictures(request), response)


@router.post(
    "/embedding-enrolments",
    status_code=202,
    openapi_extra=ARCHIVE,
    summary="Enrol embeddings in the background",
)
async def start_embedding_enrolment_job(
    request: Request,
    response: Response,
    state: State,
    collection: EnrolScope,
    model_id: Annotated[ModelId, Query(description="model of the embeddings, which must be that of the collection")],
    force: Annotated[bool, Query(description="enrol although the quality of the faces is unknown")] = False,
) -> JobView:
    """Enrols the rows of a NumPy archive: `numpy.savez(file, embeddings=…, external_id=…)`.

    `embeddings` has one row of length 1 for each person. `label` and `metadata`, which holds JSON, are optional arrays.
    A collection with quality limits needs `force`, because an embedding has no picture.
    """
    options = await state.jobs.embedding_options(collection.name, model_id)
    options |= {"force": force, "named": collection.access.may_identify(), "manages": collection.access.may_manage()}
    start = JobStart(state.jobs, EMBEDDINGS, collection.name, options, collection.actor)
    return start.answer(await start.from_archive(request), response)


@router.get("", summary="List the jobs of a collection, newest first")
async def list_jobs(
    state: State,
    collection: EnrolScope,
    limit: Limit = 100,
    cursor: Cursor = None,
    job_state: Annotated[JobState | None, Query(alias="state", description="only jobs in this state")] = None,
) -> JobsResponse:
    """Returns jobs without progress. A key without the scopes `search` and `manage` sees only jobs that it started."""
    items = await state.jobs.page(_access(collection), limit + 1, decode(cursor), job_state)
    page, next_cursor = split_page(items, limit, encode)
    return JobsResponse(jobs=[job_view(job) for job in page], next_cursor=next_cursor)


@router.get("/{job_id}", summary="Read a job with its progress")
async def read_job(job_id: uuid.UUID, state: State, collection: EnrolScope) -> JobDetail:
    """Returns the job, the number of its rows by status, the rate of the last minute and the remaining time.

    A key without the scopes `search` and `manage` can read only jobs that it started.
    """
    return job_detail(*await state.jobs.read(_access(collection), job_id))


@router.post("/{job_id}/cancel", summary="Cancel a job")
async def cancel_job(job_id: uuid.UUID, state: State, collection: EnrolScope) -> JobView:
    """Cancels a waiting or running job. Enrolled identities remain, and the other rows are not processed."""
    return job_view(await state.jobs.cancel(_access(collection), job_id, collection.actor))


@router.get("/{job_id}/rows", summary="List the results of a job page by page")
async def list_job_rows(
    job_id: uuid.UUID,
    state: State,
    collection: EnrolScope,
    limit: Limit = 100,
    cursor: Cursor = None,
    status: Annotated[RowStatus | None, Query(description="only rows with this status")] = None,
) -> JobRowsResponse:
    """Returns rows in the order of their numbers, including rows that are not processed yet.

    A row is one picture of an enrolment, or one identity of a re-embedding. A key without the scopes `search` and
    `manage` can read only the rows of jobs that it started.
    """
    number = decode_number(cursor)
    after = -1 if number is None else number
    items = await state.jobs.rows_page(_access(collection), job_id, limit + 1, after, status)
    page, next_cursor = split_page(items, limit, lambda row: encode_text(str(row.number)))
    return JobRowsResponse(rows=[row_view(row) for row in page], next_cursor=next_cursor)


@router.get("/{job_id}/rows.jsonl", summary="Download all rows as JSON Lines", response_class=StreamingResponse)
async def download_job_rows_jsonl(
    job_id: uuid.UUID, state: State, collection: EnrolScope, status: Annotated[RowStatus | None, Query()] = None
) -> StreamingResponse:
    """Returns one JSON object per row with the fields of `GET /jobs/{id}/rows`, in the order of the row numbers.

    A key without the scopes `search` and `manage` can read only the rows of jobs that it started.
    """
    rows = await state.jobs.all_rows(_access(collection), job_id, status)
    lines = (row_view(row).model_dump_json() + "\n" async for row in rows)
    return StreamingResponse(lines, media_type="application/x-ndjson")


@router.get("/{job_id}/rows.csv", summary="Download all rows as CSV", response_class=StreamingResponse)
async def download_job_rows_csv(
    job_id: uuid.UUID, state: State, collection: EnrolScope, status: Annotated[RowStatus | None, Query()] = None
) -> StreamingResponse:
    """Returns a header line and one line per row with the fields of `GET /jobs/{id}/rows`; null is an empty value.

    Values that a spreadsheet program would evaluate as a formula (they begin with `=`, `+`, `-`, `@`, a tab or a
    carriage return) have an apostrophe before them.
    The order is that of the row numbers. A key without the scopes `search` and `manage` can read only the rows of jobs
    that it started.
    """
    rows = await state.jobs.all_rows(_access(collection), job_id, status)

    async def lines() -> AsyncIterator[str]:
        yield _csv_line(list(JobRowView.model_fields))
        async for row in rows:
            values = row_view(row).model_dump(mode="json").values()
            yield _csv_line([_csv_cell(value) for value in values])

    return StreamingResponse(lines(), media_type="text/csv; charset=utf-8")


def _access(collection: CollectionScope) -> JobAccess:
    return JobAccess(collection.name, collection.access.own_jobs_only)


def _csv_cell(value: object) -> str:
    """Returns the text of a value. Text from files and names of people must not become a formula (CWE-1236)."""
    text = "" if value is None else str(value)
    return f"'{text}" if isinstance(value, str) and text.startswith(FORMULA_STARTS) else text


def _csv_line(values: list[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(values)
    return line.getvalue()
