"""Enrols the samples of one person for a job, and stores the results of their rows in the same transaction."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import CollectionNotFound, RegistryError, Unavailable
from service.gallery.access.audit_entries import Actor
from service.gallery.jobs import rows as job_rows
from service.gallery.jobs.records import Job, JobRef, JobRow, RowResult, RowStatus
from service.gallery.storage.database import Database
from service.inference.engine import Sample
from service.jobs.batches import count, finish
from service.recognition.enrolment import Enroller
from service.recognition.enrolment_records import Enrolment, EnrolmentRequest, ImageOutcome

OUTLIER = "outlier: its similarity to the person's other pictures is low"


async def enrol_samples(
    enroller: Enroller,
    database: Database,
    job: Job,
    collection: str,
    rows: Sequence[JobRow],
    samples: Sequence[Sample],
) -> None:
    """Enrols one sample for each row.

    Raises:
        RowsTakenError: another task has stored results for some of the rows.
        CollectionNotFound, Unavailable
    """
    job_ref = JobRef(job.collection_id, job.id)

    async def record(connection: AsyncConnection, enrolment: Enrolment) -> None:
        results = [
            _result(row, outcome, enrolment, job.request.get("named", False))
            for row, outcome in zip(rows, enrolment.images, strict=True)
        ]
        await job_rows.finish_rows(connection, job_ref, results)
        count(job.kind, results)

    request = EnrolmentRequest(
        collection,
        rows[0].external_id,
        next((row.label for row in rows if row.label is not None), None),
        next((row.metadata for row in rows if row.metadata is not None), None),
        samples,
        force=job.request["force"],
        may_manage=job.request.get("manages", False),
        may_identify=False,  # the stored detail of a row must not name other people: it may outlast their erasure
        actor=Actor.from_json(job.request["actor"]),
        record=record,
    )
    try:
        await enroller.enrol(request)
    except (Unavailable, CollectionNotFound):
        raise
    except RegistryError as error:
        await finish(database, job.kind, job_ref, _all_rejected(rows, error))


def _result(row: JobRow, outcome: ImageOutcome, enrolment: Enrolment, named: bool) -> RowResult:
    """`named`: the API key of the job permits comparisons, so that the result may report an outlier."""
    if outcome.error is not None:
        return rejected(row, outcome.error)
    detail = OUTLIER if outcome.outlier and named else None
    return RowResult(row.number, RowStatus(outcome.status), enrolment.identity.id, outcome.template_id, detail=detail)


def _all_rejected(rows: Sequence[JobRow], error: RegistryError) -> list[RowResult]:
    """Returns a result for each row; an error about several pictures contains the reason for each of them."""
    images = error.extensions.get("images")
    if images is None or len(images) != len(rows):
        return [rejected(row, error) for row in rows]
    return [
        RowResult(row.number, RowStatus.REJECTED, code=image["code"], detail=image["detail"])
        for row, image in zip(rows, images, strict=True)
    ]


def rejected(row: JobRow, error: RegistryError) -> RowResult:
    return RowResult(row.number, RowStatus.REJECTED, code=error.code, detail=error.detail)
