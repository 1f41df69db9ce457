"""The documents of jobs."""

import uuid
from datetime import datetime

from pydantic import BaseModel, Field

from service.api.schemas.all_schemas import Body, Name, example
from service.gallery.jobs.jobs import Job, JobRow, Progress, RowStatus, State


class FolderRequest(Body):
    """A folder of the server's."""

    model_config = example(folder="staff/2026")

    folder: Name = Field(description="below `jobs.import_root`")


class JobView(BaseModel):
    id: uuid.UUID
    kind: str
    state: State
    total: int | None = Field(description="rows; null: not counted yet")
    problem: str | None = Field(description="why the job failed as a whole")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class JobDetail(JobView):
    done: int
    counts: dict[RowStatus, int]
    rate: float | None = Field(description="rows a second over the last minute")
    eta_s: float | None = Field(description="seconds until it is done at this rate")


class JobsResponse(BaseModel):
    jobs: list[JobView]
    next_cursor: str | None


class JobRowView(BaseModel):
    number: int
    source: str = Field(description="the file")
    external_id: str
    status: RowStatus | None = Field(description="null: not done yet")
    identity_id: uuid.UUID | None
    template_id: uuid.UUID | None
    code: str | None = Field(description="why it was rejected; docs/problems.md explains each code")
    detail: str | None
    done_at: datetime | None


class JobRowsResponse(BaseModel):
    rows: list[JobRowView]
    next_cursor: str | None


def job_view(job: Job) -> JobView:
    return JobView.model_validate(job, from_attributes=True)


def job_detail(job: Job, progress: Progress) -> JobDetail:
    left = None if job.total is None else max(0, job.total - progress.done)
    running = job.state is State.RUNNING and progress.rate
    return JobDetail(
        **job_view(job).model_dump(),
        done=progress.done,
        counts={status: progress.counts.get(status, 0) for status in RowStatus},
        rate=None if progress.rate is None or not running else round(progress.rate, 2),
        eta_s=round(left / progress.rate, 1) if running and progress.rate and left is not None else None,
    )


def row_view(row: JobRow) -> JobRowView:
    return JobRowView.model_validate(row, from_attributes=True)
