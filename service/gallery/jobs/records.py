"""The records of background jobs and of their rows."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import and_

from service.gallery.storage.tables import job, job_row


class JobState(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    """The job as a whole cannot continue. Its rows keep the results that they have."""
    CANCELLED = "cancelled"


UNFINISHED = (JobState.WAITING, JobState.RUNNING)


class RowStatus(StrEnum):
    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    """The identity already has a template of the same face in the same picture."""
    REJECTED = "rejected"
    """The input cannot be used. `code` is the error code that a request with this picture would receive."""
    FAILED = "failed"
    """The service caused an error."""


class RowsTakenError(Exception):
    """Another task has already stored a result for at least one of the rows, or the rows were deleted."""


@dataclass(frozen=True, slots=True)
class JobRef:
    """The primary key of a job."""

    collection_id: uuid.UUID
    id: uuid.UUID

    @property
    def of_job(self) -> Any:
        """SQL condition that selects the job."""
        return and_(job.c.collection_id == self.collection_id, job.c.id == self.id)

    @property
    def of_rows(self) -> Any:
        """SQL condition that selects the rows of the job."""
        return and_(job_row.c.collection_id == self.collection_id, job_row.c.job_id == self.id)


@dataclass(frozen=True, slots=True)
class Job:
    """A row of the table `job`.

    Attributes:
        kind: name of the `JobKind` that executes the job.
        request: parameters of the job, as JSON.
        total: number of rows, or None before the rows are written.
        problem: why the job failed as a whole.
    """

    collection_id: uuid.UUID
    id: uuid.UUID
    kind: str
    state: JobState
    request: dict[str, Any]
    total: int | None
    problem: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of a job.

    Attributes:
        counts: number of processed rows by status.
        rate: rows per second over the last minute, or None if no row was processed in that minute.
    """

    counts: dict[RowStatus, int]
    rate: float | None

    @property
    def done(self) -> int:
        return sum(self.counts.values())


@dataclass(frozen=True, slots=True)
class NewRow:
    """A row before it is stored. A row with a `status` is final: no task processes it.

    Attributes:
        box: x_min, y_min, x_max, y_max of the face in pixels of the upright picture, or as shares of its sides if no
            number exceeds 1; None: the job's choice of a face applies.
    """

    source: str
    external_id: str
    label: str | None = None
    metadata: dict[str, Any] | None = None
    box: tuple[float, float, float, float] | None = None
    status: RowStatus | None = None
    code: str | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class JobRow:
    """A row of the table `job_row`. `status` is None until a task has processed the row."""

    number: int
    source: str
    external_id: str
    label: str | None
    metadata: dict[str, Any] | None
    box: list[float] | None
    status: RowStatus | None
    identity_id: uuid.UUID | None
    template_id: uuid.UUID | None
    code: str | None
    detail: str | None
    done_at: datetime | None


@dataclass(frozen=True, slots=True)
class RowResult:
    """The result of processing one row."""

    number: int
    status: RowStatus
    identity_id: uuid.UUID | None = None
    template_id: uuid.UUID | None = None
    code: str | None = None
    detail: str | None = None
