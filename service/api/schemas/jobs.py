"""Documents of jobs."""

import uuid
from datetime import datetime

from pydantic import BaseModel, Field

from service.api.schemas.fields import Body
from service.gallery.jobs.records import Job, JobRow, JobState, Progress, RowStatus
from service.recognition.person_fields import Name


class FolderRequest(Body):
    """A folder of the server."""

    folder: Name = Field(description="path below the setting `jobs.import_root`")


class JobView(BaseModel):
    id: uuid.UUID
    kind: str
    state: JobState
    total: int | None = Field(description="number of rows; null: they are not counted yet")
    problem: str | None = Field(description="reason why the job as a whole failed")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class JobDetail(JobView):
    done: int
    counts: dict[RowStatus, int]
    rate: float | None = Field(description="rows per second during the last minute")
    eta_s: float | None = Field(description="estimated seconds until the job is done")


class JobsResponse(BaseModel):
    jobs: list[JobView]
    next_cursor: str | None


class JobRowView(BaseModel):
    number: int
    source: str = Field(description="file, `embeddings[number]`, the identity's id in a re-embedding, or `groups`")
    external_id: str
    box: list[float] | None = Field(description="of the face, in pixels or as shares of width and height; null: none")
    status: RowStatus | None = Field(description="null: the row is not processed yet")
    identity_id: uuid.UUID | None
    template_id: uuid.UUID | None
    code: str | None = Field(description="error code of a rejected row")
    detail: str | None
    done_at: datetime | None


class JobRowsResponse(BaseModel):
    rows: list[JobRowView]
    next_cursor: str | None


def job_view(job: Job) -> JobView:
    return JobView.model_validate(job, from_attributes=True)


def job_detail(job: Job, progress: Progress) -> JobDetail:
    remaining = None if job.total is None else max(0, job.total - progress.done)
    rate = progress.rate if job.state is JobState.RUNNING else None
    return JobDetail(
        **job_view(job).model_dump(),
        done=progress.done,
        counts={status: progress.counts.get(status, 0) for status in RowStatus},
        rate=None if not rate else round(rate, 2),
        eta_s=round(remaining / rate, 1) if rate and remaining is not None else None,
    )


def row_view(row: JobRow) -> JobRowView:
    return JobRowView.model_validate(row, from_attributes=True)
