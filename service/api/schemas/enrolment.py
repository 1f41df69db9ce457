"""Documents of POST /register."""

import uuid
from collections import Counter
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, model_validator
from pydantic_core import PydanticCustomError

from service.api.schemas.faces import FaceView, face_view
from service.api.schemas.fields import (
    BoxCorners,
    EmbeddingBytes,
    EmbeddingModel,
    FaceSelection,
    ImageBytes,
    RetainUntil,
    rename,
    require_box,
)
from service.inference.engine import FaceChoice
from service.recognition.enrolment_records import Enrolment, ImageOutcome
from service.recognition.person_fields import Metadata, Name

MAX_IMAGES = 32


class RegisterRequest(FaceSelection):
    """Enrols one identity from one or more pictures. `image` is accepted instead of a list with one picture."""

    face: FaceChoice = FaceChoice.ONLY
    external_id: Name | None = Field(None, description="the client's id; the same id is the same identity")
    label: Name | None = Field(None, description="displayed name; without `external_id` it is the id as well")
    metadata: Metadata | None = None
    images: Annotated[list[ImageBytes], Field(max_length=MAX_IMAGES)] = Field([], description="the pictures")
    embeddings: Annotated[list[EmbeddingBytes], Field(max_length=MAX_IMAGES)] = Field(
        [], description="instead of `images`: embeddings of the collection's model"
    )
    model_id: EmbeddingModel | None = None
    boxes: list[BoxCorners] | None = Field(
        None, max_length=MAX_IMAGES, description="with `face=box`: one box for each picture"
    )
    retain_until: RetainUntil | None = None
    force: bool = Field(False, description="enrol faces that the quality limits refuse")

    @model_validator(mode="before")
    @classmethod
    def _accept_one_image(cls, values: object) -> object:
        return rename(values, "image", "images", as_list=True)

    @model_validator(mode="after")
    def _require_complete(self) -> Self:
        if self.external_id is None and self.label is None:
            raise PydanticCustomError("no_key", "send `external_id`, `label`, or both")
        if bool(self.images) == bool(self.embeddings):
            raise PydanticCustomError("no_picture", "send either `images` or `embeddings`")
        if self.face is FaceChoice.ALL:
            raise PydanticCustomError("one_face", "register uses one face of each picture; `face=all` is for search")
        require_box(self.face, self.boxes, "boxes")
        if self.boxes is not None and len(self.boxes) != len(self.images):
            raise PydanticCustomError("boxes", "`boxes` needs one box for each picture")
        return self

    @property
    def key(self) -> str:
        """The identity's external id."""
        return self.external_id or self.label or ""


class ImageOutcomeView(BaseModel):
    status: Literal["accepted", "duplicate", "rejected"]
    template_id: uuid.UUID | None = None
    face: FaceView | None = None
    code: str | None = Field(None, description="error code of a rejected picture")
    detail: str | None = None
    reasons: list[str] | None = Field(
        None, description="quality limits that the face does not meet; with `force`, those that were overridden"
    )
    faces: list[FaceView] | None = Field(None, description="the detected faces, if none could be chosen")
    similarity: float | None = Field(
        None,
        description="cosine similarity to the nearest other picture of the identity; null: there is none, the key may "
        "not search, or the response is a repeated one",
    )
    outlier: bool | None = Field(
        None,
        description="`similarity` is so low that the picture may show another person; null if `similarity` is null",
    )


class DuplicateCandidateView(BaseModel):
    identity_id: uuid.UUID
    external_id: str
    label: str
    score: float = Field(description="cosine similarity to the nearest template")


class RegisterResponse(BaseModel):
    identity_id: uuid.UUID
    external_id: str
    label: str
    collection: str
    created: bool
    template_count: int
    accepted_count: int = Field(description="number of pictures that were stored")
    duplicate_count: int = Field(description="number of pictures whose face the identity has already")
    rejected_count: int = Field(description="number of pictures that were refused; `images` has the reasons")
    images: list[ImageOutcomeView]
    duplicate_candidate_count: int = Field(
        0, description="number of other identities that match, if the collection searches for duplicates"
    )
    duplicate_candidates: list[DuplicateCandidateView] = Field(
        [], description="these identities, for keys that may search; empty in a repeated response"
    )


def register_response(enrolment: Enrolment, collection: str, may_identify: bool) -> RegisterResponse:
    """Returns the response.

    Args:
        may_identify: the caller may learn which identities look alike, and how similar the pictures are.
    """
    identity = enrolment.identity
    counts = Counter(outcome.status for outcome in enrolment.images)
    return RegisterResponse(
        identity_id=identity.id,
        external_id=identity.external_id,
        label=identity.label,
        collection=collection,
        created=enrolment.created,
        template_count=identity.template_count,
        accepted_count=counts["accepted"],
        duplicate_count=counts["duplicate"],
        rejected_count=counts["rejected"],
        images=[_outcome_view(outcome, may_identify) for outcome in enrolment.images],
        duplicate_candidates=[
            DuplicateCandidateView(
                identity_id=candidate.id,
                external_id=candidate.external_id,
                label=candidate.label,
                score=round(candidate.score, 6),
            )
            for candidate in (enrolment.duplicate_candidates if may_identify else [])
        ],
        duplicate_candidate_count=len(enrolment.duplicate_candidates),
    )


def _outcome_view(outcome: ImageOutcome, may_identify: bool) -> ImageOutcomeView:
    error, similarity = outcome.error, outcome.similarity if may_identify else None
    problem: dict[str, Any] = {} if error is None else {"code": error.code, "detail": error.detail, **error.extensions}
    faces = [{**face, "landmarks": None} for face in problem.pop("faces", [])]
    return ImageOutcomeView(
        status=outcome.status,
        template_id=outcome.template_id,
        face=None if outcome.face is None else face_view(outcome.face),
        code=problem.get("code"),
        detail=problem.get("detail"),
        reasons=problem.get("reasons") or list(outcome.overridden) or None,
        faces=[FaceView.model_validate(face) for face in faces] or None,
        similarity=None if similarity is None else round(similarity, 6),
        outlier=None if similarity is None else outcome.outlier,
    )
