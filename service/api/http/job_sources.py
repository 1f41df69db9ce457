"""Bodies of requests that start a job: a zip file, JSON with a folder of the server, or none."""

from dataclasses import dataclass
from typing import Any

from fastapi import Request, Response

from service.api.http.archives import ZIP, declared_size, is_zip
from service.api.http.bodies import JSON, media_type, read_body
from service.api.http.forms import DOCUMENTS, REFERENCE
from service.api.schemas.jobs import FolderRequest, JobView, job_view
from service.errors import UnsupportedMediaType
from service.gallery.access.audit_entries import Actor
from service.gallery.jobs.records import Job
from service.jobs.administration import JobAdministration

DOCUMENTS[FolderRequest.__name__] = FolderRequest
ZIP_CONTENT: dict[str, Any] = {ZIP: {"schema": {"type": "string", "format": "binary"}}}
FOLDER_CONTENT: dict[str, Any] = {JSON: {"schema": {"$ref": REFERENCE.format(model=FolderRequest.__name__)}}}


def body(content: dict[str, Any], required: bool = True) -> dict[str, Any]:
    """Returns the part of an operation of the OpenAPI document that describes its body."""
    return {"requestBody": {"required": required, "content": content}}


@dataclass(frozen=True)
class JobStart:
    """A request to start a job of one kind."""

    jobs: JobAdministration
    kind: str
    collection: str
    options: dict[str, Any]
    actor: Actor

    async def from_archive(self, request: Request) -> Job:
        """Starts a job on a zip file. Raises UnsupportedMediaType and the errors of `start_with_archive`."""
        if not is_zip(request.headers):
            raise _unsupported(request, ZIP)
        parts = self.kind, self.collection, request.stream(), declared_size(request.headers), self.options, self.actor
        return await self.jobs.start_with_archive(*parts)

    async def from_pictures(self, request: Request) -> Job:
        """Starts a job on a zip file or a folder. Raises UnsupportedMediaType and the errors of `JobAdministration`."""
        if is_zip(request.headers):
            return await self.from_archive(request)
        if media_type(request) != JSON:
            raise _unsupported(request, f"{ZIP}, or {JSON} with a `folder`")
        folder = (await read_body(request, FolderRequest)).folder
        return await self.jobs.start_with_folder(self.kind, self.collection, folder, self.options, self.actor)

    async def without_pictures(self) -> Job:
        """Starts a job that needs no body."""
        return await self.jobs.start(self.kind, self.collection, self.options, self.actor)

    def answer(self, job: Job, response: Response) -> JobView:
        """Returns the job's document, and sets the address of the job as `Location`."""
        response.headers["Location"] = f"/jobs/{job.id}?collection={self.collection}"
        return job_view(job)


def _unsupported(request: Request, accepted: str) -> UnsupportedMediaType:
    return UnsupportedMediaType(f"the Content-Type is {media_type(request) or 'missing'}; send {accepted}")
