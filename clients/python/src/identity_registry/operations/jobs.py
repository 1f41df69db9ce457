"""Operations on background jobs."""

import os
import uuid
from pathlib import Path
from typing import Literal

from identity_registry.binding import listing, operation
from identity_registry.inputs import DEFAULT_COLLECTION, Detector, FaceChoice, without_none
from identity_registry.requests import Body, Listing, Request, path_of
from identity_registry.responses.base import Page
from identity_registry.responses.jobs import Job, JobDetail, JobRow

State = Literal["waiting", "running", "done", "failed", "cancelled"]
RowStatus = Literal["accepted", "duplicate", "rejected", "failed"]


class Jobs:
    @operation
    def enrol_archive(
        self,
        archive: str | os.PathLike[str],
        *,
        collection: str = DEFAULT_COLLECTION,
        face: FaceChoice | None = None,
        detector: Detector | None = None,
        force: bool | None = None,
        encoding: str | None = None,
        people: Literal["folders", "regions"] | None = None,
    ) -> Request[Job]:
        """Uploads a zip file of `<person>/<picture>.jpg` and starts a job that enrols its pictures.

        Args:
            face: which face of each picture; the service's default is `only`.
            force: enrol faces that fail the quality gate.
            encoding: of file names that are not marked as UTF-8, for example `cp932`.
            people: `regions`: the named face regions in the XMP of each picture are its people.
        """
        return Request(
            "POST",
            "/jobs/enrolments",
            Job.model_validate_json,
            without_none(
                collection=collection, face=face, detector=detector, force=force, encoding=encoding, people=people
            ),
            archive=Path(archive),
            headers={"Content-Type": "application/zip"},
            repeatable=False,
        )

    @operation
    def enrol_folder(
        self,
        folder: str,
        *,
        collection: str = DEFAULT_COLLECTION,
        face: FaceChoice | None = None,
        detector: Detector | None = None,
        force: bool | None = None,
        people: Literal["folders", "regions"] | None = None,
    ) -> Request[Job]:
        """Starts a job that enrols the pictures of a folder on the server, below `jobs.import_root`."""
        query = without_none(collection=collection, face=face, detector=detector, force=force, people=people)
        body = Body({"folder": folder})
        return Request("POST", "/jobs/enrolments", Job.model_validate_json, query, body, repeatable=False)

    @operation
    def enrol_embeddings(
        self,
        archive: str | os.PathLike[str],
        model_id: str,
        *,
        collection: str = DEFAULT_COLLECTION,
        force: bool | None = None,
    ) -> Request[Job]:
        """Uploads a NumPy archive and starts a job that enrols its embeddings.

        Args:
            archive: `numpy.savez(file, embeddings=…, external_id=…)`, optionally with `label` and `metadata` (JSON).
            model_id: model of the embeddings, which must be that of the collection.
            force: enrol although the quality of the faces is unknown.
        """
        return Request(
            "POST",
            "/jobs/embedding-enrolments",
            Job.model_validate_json,
            without_none(collection=collection, model_id=model_id, force=force),
            archive=Path(archive),
            headers={"Content-Type": "application/zip"},
            repeatable=False,
        )

    @listing
    def list_jobs(
        self, *, collection: str = DEFAULT_COLLECTION, state: State | None = None, page_size: int | None = None
    ) -> Listing[Job]:
        """Iterates over the jobs of a collection, newest first."""
        query = without_none(collection=collection, state=state, limit=page_size)
        return Listing(Request("GET", "/jobs", Page[Job].model_validate_json, query))

    @operation
    def read_job(self, job_id: uuid.UUID | str, *, collection: str = DEFAULT_COLLECTION) -> Request[JobDetail]:
        """Returns a job with its progress."""
        query = {"collection": collection}
        return Request("GET", path_of("jobs", job_id), JobDetail.model_validate_json, query)

    @listing
    def list_job_rows(
        self,
        job_id: uuid.UUID | str,
        *,
        collection: str = DEFAULT_COLLECTION,
        status: RowStatus | None = None,
        page_size: int | None = None,
    ) -> Listing[JobRow]:
        """Iterates over the results of a job's pictures."""
        query = without_none(collection=collection, status=status, limit=page_size)
        return Listing(Request("GET", path_of("jobs", job_id, "rows"), Page[JobRow].model_validate_json, query))

    @operation
    def cancel_job(self, job_id: uuid.UUID | str, *, collection: str = DEFAULT_COLLECTION) -> Request[Job]:
        """Ends a job. Pictures that it has enrolled stay enrolled."""
        path, query = path_of("jobs", job_id, "cancel"), {"collection": collection}
        return Request("POST", path, Job.model_validate_json, query, repeatable=False)
