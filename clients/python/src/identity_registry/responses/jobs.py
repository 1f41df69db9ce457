"""Responses about background jobs."""

import uuid
from datetime import datetime

from identity_registry.responses.base import Document


class Job(Document):
    """A background job.

    Attributes:
        kind: such as `enrolment`.
        state: such as `waiting`, `running`, `done`, `failed` or `cancelled`.
        total: number of rows; None until they are counted.
        problem: reason of a failed job.
    """

    id: uuid.UUID
    kind: str
    state: str
    total: int | None = None
    problem: str | None = None
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def finished(self) -> bool:
        """True if the job is done, failed or cancelled."""
        return self.finished_at is not None


class JobDetail(Job):
    """A background job with its progress.

    Attributes:
        counts: number of finished rows by status.
        rate: rows per second during the last minute.
        eta_s: estimated seconds until the job ends.
    """

    done: int
    counts: dict[str, int]
    rate: float | None = None
    eta_s: float | None = None


class JobRow(Document):
    """Result of one picture of a bulk enrolment.

    Attributes:
        source: name of the file.
        box: of the face, in pixels or as shares of width and height, if the source names one.
        status: None until the row is processed, then as in `ImageOutcome`.
        code: error code of a rejected picture.
    """

    number: int
    source: str
    external_id: str
    box: list[float] | None = None
    status: str | None = None
    identity_id: uuid.UUID | None = None
    template_id: uuid.UUID | None = None
    code: str | None = None
    detail: str | None = None
    done_at: datetime | None = None
