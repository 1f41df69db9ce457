"""The operations of the API: what each sends, and what its answer is."""

import base64
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel

from service.api.schemas.all_schemas import (
    CalibrationResponse,
    CollectionDeletionResponse,
    CollectionsResponse,
    CollectionView,
    CorrectionsResponse,
    CorrectionView,
    DeletionResponse,
    EmbedResponse,
    IdentitiesResponse,
    IdentityView,
    MergeResponse,
    ModelsResponse,
    PredictResponse,
    RegisterResponse,
    SearchResponse,
    SubjectDataResponse,
    TemplateDeletionResponse,
    TemplatesResponse,
    TemplateView,
    VerifyResponse,
)
from service.api.schemas.audit import AuditResponse, EntryView, HeadsResponse
from service.api.schemas.jobs import JobDetail, JobRowsResponse, JobRowView, JobsResponse, JobView
from service.api.schemas.model_migration import (
    MissingPeopleResponse,
    MissingPerson,
    ModelMigrationDeletionResponse,
    ModelMigrationView,
)

DEFAULT = "default"
Picture = bytes | str | Path
"""A picture's bytes, or where it lies."""
Method = Literal["GET", "POST", "PATCH", "DELETE"]
Answer = TypeVar("Answer", bound=BaseModel | None)
Item = TypeVar("Item")


@dataclass(frozen=True)
class Operation(Generic[Answer]):
    """One request. `answer`: None where there is no body. `file`: what is streamed as the body.

    `repeatable`: whether it may be sent again when nobody knows if it arrived.
    """

    method: Method
    path: str
    answer: type[Answer] | None
    params: Mapping[str, Any] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    file: Path | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = True


@dataclass(frozen=True)
class Listing(Generic[Item]):
    """A list that is read page by page."""

    first: Operation[Any]
    items_of: Callable[[Any], Sequence[Item]]

    def page(self, cursor: str | None) -> Operation[Any]:
        """The request for the page that begins at a cursor."""
        return replace(self.first, params={**self.first.params, **_given(cursor=cursor)})


def register(
    label: str,
    pictures: Sequence[Picture],
    *,
    collection: str = DEFAULT,
    external_id: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    face: str | None = None,
    force: bool | None = None,
    retain_until: datetime | None = None,
    idempotency_key: str | None = None,
) -> Operation[RegisterResponse]:
    """Enrol a person from pictures, once however often it has to be sent."""
    body = _given(
        collection=collection,
        label=label,
        external_id=external_id,
        metadata=metadata,
        images=[_base64(picture) for picture in pictures],
        face=face,
        force=force,
        retain_until=None if retain_until is None else retain_until.isoformat(),
    )
    headers = {"Idempotency-Key": idempotency_key or uuid.uuid4().hex}
    return Operation("POST", "/register", RegisterResponse, body=body, headers=headers)


def verify(
    picture: Picture,
    other: Picture | None = None,
    *,
    collection: str = DEFAULT,
    identity_id: uuid.UUID | None = None,
    external_id: str | None = None,
    fmr: float | None = None,
    fpir: float | None = None,
    threshold: float | None = None,
    face: str | None = None,
) -> Operation[VerifyResponse]:
    """Is this the same person as on another picture, or as one who is enrolled?"""
    body = _given(
        collection=collection,
        image_a=_base64(picture),
        image_b=None if other is None else _base64(other),
        identity_id=None if identity_id is None else str(identity_id),
        external_id=external_id,
        fmr=fmr,
        fpir=fpir,
        threshold=threshold,
        face=face,
    )
    return Operation("POST", "/verify", VerifyResponse, body=body)


def search(
    *pictures: Picture,
    collection: str = DEFAULT,
    top_k: int | None = None,
    fmr: float | None = None,
    fpir: float | None = None,
    threshold: float | None = None,
    face: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    explain: bool | None = None,
) -> Operation[SearchResponse]:
    """Who is this? Several pictures are of one person. `metadata`: a filter."""
    body = _given(
        collection=collection,
        image=_base64(pictures[0]) if len(pictures) == 1 else None,
        images=[_base64(picture) for picture in pictures] if len(pictures) != 1 else None,
        top_k=top_k,
        fmr=fmr,
        fpir=fpir,
        threshold=threshold,
        face=face,
        filter=metadata,
        explain=explain,
    )
    return Operation("POST", "/search", SearchResponse, body=body)


def embed(picture: Picture, *, face: str | None = None, model_id: str | None = None) -> Operation[EmbedResponse]:
    """The embeddings of a picture's faces."""
    body = _given(image=_base64(picture), face=face, model_id=model_id)
    return Operation("POST", "/embed", EmbedResponse, body=body)


def predict(
    picture: Picture | None = None, *, url: str | None = None, face: str | None = None, top_k: int | None = None
) -> Operation[PredictResponse]:
    """Which of the people of the service's classifier the faces of a picture, or of one behind an address, are."""
    body = _given(image=None if picture is None else _base64(picture), url=url, face=face, top_k=top_k)
    return Operation("POST", "/predict", PredictResponse, body=body)


def identities(
    *, collection: str = DEFAULT, label: str | None = None, external_id: str | None = None, metadata: str | None = None
) -> Listing[IdentityView]:
    """Everybody in a collection, in the order of their enrolment. `metadata`: a filter, as JSON."""
    params = _given(collection=collection, label=label, external_id=external_id, filter=metadata)
    return Listing(Operation("GET", "/identities", IdentitiesResponse, params), lambda page: page.identities)


def identity(identity_id: uuid.UUID, *, collection: str = DEFAULT) -> Operation[IdentityView]:
    """One enrolled person."""
    return Operation("GET", f"/identities/{identity_id}", IdentityView, {"collection": collection})


def change_identity(identity_id: uuid.UUID, *, collection: str = DEFAULT, **changes: Any) -> Operation[IdentityView]:
    """Set `label`, `metadata` or `retain_until`."""
    if isinstance(until := changes.get("retain_until"), datetime):
        changes["retain_until"] = until.isoformat()
    return Operation("PATCH", f"/identities/{identity_id}", IdentityView, {"collection": collection}, changes)


def erase(identity_id: uuid.UUID, *, collection: str = DEFAULT) -> Operation[DeletionResponse]:
    """Delete a person with all that is known of them; the answer is a receipt."""
    return _once("DELETE", f"/identities/{identity_id}", DeletionResponse, collection)


def export(identity_id: uuid.UUID, *, collection: str = DEFAULT) -> Operation[SubjectDataResponse]:
    """Everything that is held on a person."""
    return Operation("GET", f"/identities/{identity_id}/export", SubjectDataResponse, {"collection": collection})


def templates(identity_id: uuid.UUID, *, collection: str = DEFAULT) -> Listing[TemplateView]:
    """What is stored of a person's pictures."""
    path = f"/identities/{identity_id}/templates"
    return Listing(Operation("GET", path, TemplatesResponse, {"collection": collection}), lambda page: page.templates)


def delete_template(
    identity_id: uuid.UUID, template_id: uuid.UUID, *, collection: str = DEFAULT
) -> Operation[TemplateDeletionResponse]:
    """Delete one picture's template."""
    return _once("DELETE", f"/identities/{identity_id}/templates/{template_id}", TemplateDeletionResponse, collection)


def merge(
    identity_id: uuid.UUID, others: Sequence[uuid.UUID], *, collection: str = DEFAULT
) -> Operation[MergeResponse]:
    """Make one person of several who are the same."""
    body = {"identities": [str(other) for other in others]}
    return _once("POST", f"/identities/{identity_id}/merge", MergeResponse, collection, body)


def split(
    identity_id: uuid.UUID,
    template_ids: Sequence[uuid.UUID],
    external_id: str,
    *,
    collection: str = DEFAULT,
    label: str | None = None,
) -> Operation[IdentityView]:
    """Make another person of some of one's templates."""
    body = _given(template_ids=[str(one) for one in template_ids], external_id=external_id, label=label)
    return _once("POST", f"/identities/{identity_id}/split", IdentityView, collection, body)


def move(identity_id: uuid.UUID, to: str, *, collection: str = DEFAULT) -> Operation[IdentityView]:
    """Take a person to another collection."""
    return _once("POST", f"/identities/{identity_id}/move", IdentityView, collection, {"to": to})


def correct(
    identity_id: uuid.UUID, picture: Picture, *, collection: str = DEFAULT, face: str | None = None
) -> Operation[CorrectionView]:
    """Say that a face is not the person's."""
    body = _given(image=_base64(picture), face=face)
    return _once("POST", f"/identities/{identity_id}/corrections", CorrectionView, collection, body)


def corrections(identity_id: uuid.UUID, *, collection: str = DEFAULT) -> Listing[CorrectionView]:
    """Faces that are said not to be the person's."""
    path = f"/identities/{identity_id}/corrections"
    first = Operation("GET", path, CorrectionsResponse, {"collection": collection})
    return Listing(first, lambda page: page.corrections)


def delete_correction(
    identity_id: uuid.UUID, correction_id: uuid.UUID, *, collection: str = DEFAULT
) -> Operation[None]:
    """Take a correction back."""
    path = f"/identities/{identity_id}/corrections/{correction_id}"
    return Operation("DELETE", path, None, {"collection": collection}, repeatable=False)


def collections(*, prefix: str | None = None) -> Listing[CollectionView]:
    """The collections by name."""
    first = Operation("GET", "/collections", CollectionsResponse, _given(prefix=prefix))
    return Listing(first, lambda page: page.collections)


def collection(name: str) -> Operation[CollectionView]:
    """One collection."""
    return Operation("GET", f"/collections/{name}", CollectionView)


def create_collection(name: str, **rules: Any) -> Operation[CollectionView]:
    """Make a collection; rules are `fmr`, `fpir`, `quality`, `duplicates`, `store_crops`, `model_id`."""
    return Operation("POST", "/collections", CollectionView, body={"name": name, **rules}, repeatable=False)


def change_collection(name: str, **changes: Any) -> Operation[CollectionView]:
    """Change a collection's rules."""
    return Operation("PATCH", f"/collections/{name}", CollectionView, body=changes)


def delete_collection(name: str) -> Operation[CollectionDeletionResponse]:
    """Delete a collection with everybody in it."""
    return Operation("DELETE", f"/collections/{name}", CollectionDeletionResponse, repeatable=False)


def change_model(name: str, model_id: str, *, activate: bool = True) -> Operation[JobView]:
    """Let another model know everybody in a collection, and take the place of its own."""
    body = {"model_id": model_id, "activate": activate}
    return Operation("POST", f"/collections/{name}/model-migration", JobView, body=body, repeatable=False)


def standby(name: str) -> Operation[ModelMigrationView]:
    """The other model of a collection, and whom it knows."""
    return Operation("GET", f"/collections/{name}/model-migration", ModelMigrationView)


def missing(name: str) -> Listing[MissingPerson]:
    """Who needs new photos before the other model can become the collection's own."""
    return Listing(
        Operation("GET", f"/collections/{name}/model-migration/missing", MissingPeopleResponse),
        lambda page: page.people,
    )


def activate_standby(name: str, model_id: str, *, force: bool = False) -> Operation[ModelMigrationView]:
    """Let a collection's other model, this one, be its own from now on, and its own stand by."""
    path = f"/collections/{name}/model-migration/activate"
    return Operation("POST", path, ModelMigrationView, body={"model_id": model_id, "force": force})


def drop_standby(name: str, model_id: str, *, force: bool = False) -> Operation[ModelMigrationDeletionResponse]:
    """Forget what a collection's other model, this one, made."""
    params = {"model_id": model_id, "force": force}
    return Operation(
        "DELETE", f"/collections/{name}/model-migration", ModelMigrationDeletionResponse, params, repeatable=False
    )


def enrol_archive(
    archive: Path | str, *, collection: str = DEFAULT, face: str | None = None, force: bool | None = None
) -> Operation[JobView]:
    """Enrol a zip of `<person>/<picture>.jpg` in the background."""
    return Operation(
        "POST",
        "/jobs/enrolments",
        JobView,
        _given(collection=collection, face=face, force=force),
        file=Path(archive),
        headers={"Content-Type": "application/zip"},
        repeatable=False,
    )


def enrol_folder(
    folder: str, *, collection: str = DEFAULT, face: str | None = None, force: bool | None = None
) -> Operation[JobView]:
    """Enrol a folder of the server's in the background."""
    params = _given(collection=collection, face=face, force=force)
    return Operation("POST", "/jobs/enrolments", JobView, params, {"folder": folder}, repeatable=False)


def jobs(*, collection: str = DEFAULT, state: str | None = None) -> Listing[JobView]:
    """Jobs of a collection, newest first."""
    first = Operation("GET", "/jobs", JobsResponse, _given(collection=collection, state=state))
    return Listing(first, lambda page: page.jobs)


def job(job_id: uuid.UUID, *, collection: str = DEFAULT) -> Operation[JobDetail]:
    """How far a job is."""
    return Operation("GET", f"/jobs/{job_id}", JobDetail, {"collection": collection})


def cancel_job(job_id: uuid.UUID, *, collection: str = DEFAULT) -> Operation[JobView]:
    """End a job."""
    return _once("POST", f"/jobs/{job_id}/cancel", JobView, collection)


def job_rows(job_id: uuid.UUID, *, collection: str = DEFAULT, status: str | None = None) -> Listing[JobRowView]:
    """What became of each row of a job."""
    params = _given(collection=collection, status=status)
    return Listing(Operation("GET", f"/jobs/{job_id}/rows", JobRowsResponse, params), lambda page: page.rows)


def audit(
    *, collection: str = DEFAULT, identity_id: uuid.UUID | None = None, action: str | None = None
) -> Listing[EntryView]:
    """The audit trail, oldest first."""
    params = _given(collection=collection, identity_id=identity_id, action=action)
    return Listing(Operation("GET", "/audit", AuditResponse, params), lambda page: page.entries)


def audit_heads(*, collection: str = DEFAULT) -> Operation[HeadsResponse]:
    """Where the collection's audit chain ends."""
    return Operation("GET", "/audit/heads", HeadsResponse, {"collection": collection})


def models() -> Operation[ModelsResponse]:
    """The loaded models."""
    return Operation("GET", "/models", ModelsResponse)


def calibration(model_id: str) -> Operation[CalibrationResponse]:
    """Which threshold stands for which error rate."""
    return Operation("GET", f"/models/{model_id}/calibration", CalibrationResponse)


def _once(
    method: Method, path: str, answer: type[Answer], collection: str, body: Mapping[str, Any] | None = None
) -> Operation[Answer]:
    return Operation(method, path, answer, {"collection": collection}, body, repeatable=False)


def _base64(picture: Picture) -> str:
    data = picture if isinstance(picture, bytes) else Path(picture).read_bytes()
    return base64.b64encode(data).decode()


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
