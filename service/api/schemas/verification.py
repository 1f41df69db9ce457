"""Documents of POST /verify."""

import uuid
from typing import Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from service.api.schemas.decisions import DecisionView, decision_fields
from service.api.schemas.faces import FaceView, face_view
from service.api.schemas.fields import (
    BoxCorners,
    DecisionFields,
    EmbeddingBytes,
    EmbeddingModel,
    ImageBytes,
    rename,
    require_box,
)
from service.api.schemas.identities import IdentityView, identity_view
from service.inference.engine import FaceChoice
from service.recognition.person_fields import Name
from service.recognition.verification import Verification


class VerifyRequest(DecisionFields):
    """Compares two pictures, or one picture with an enrolled identity. `image` is accepted instead of `image_a`."""

    image_a: ImageBytes | None = None
    image_b: ImageBytes | None = None
    embedding_a: EmbeddingBytes | None = Field(None, description="instead of `image_a`")
    embedding_b: EmbeddingBytes | None = Field(None, description="instead of `image_b`")
    model_id: EmbeddingModel | None = None
    box_a: BoxCorners | None = None
    box_b: BoxCorners | None = None
    identity_id: uuid.UUID | None = None
    external_id: Name | None = None

    @model_validator(mode="before")
    @classmethod
    def _accept_one_image(cls, values: object) -> object:
        return rename(values, "image", "image_a")

    @model_validator(mode="after")
    def _require_two_sides(self) -> Self:
        if (self.image_a is None) == (self.embedding_a is None):
            raise PydanticCustomError("no_picture", "send either `image_a` or `embedding_a`")
        references = (self.image_b, self.embedding_b, self.identity_id, self.external_id)
        if sum(side is not None for side in references) != 1:
            raise PydanticCustomError(
                "two_sides",
                "send exactly one of `image_b`, `embedding_b`, `identity_id` and `external_id` to compare `image_a` "
                "with",
            )
        if self.face is FaceChoice.ALL:
            raise PydanticCustomError("one_face", "verify uses one face of each picture; `face=all` is for search")
        if self.image_a is not None:
            require_box(self.face, self.box_a, "box_a")
        if self.image_b is not None:
            require_box(self.face, self.box_b, "box_b")
        return self


class VerifyResponse(DecisionView):
    match: bool
    score: float = Field(description="cosine similarity, -1 to 1")
    overruled_by_correction: bool = Field(
        description="the probe is nearer to a corrected face of the identity than to its templates; so it is no match"
    )
    face_a: FaceView | None
    face_b: FaceView | None = None
    identity: IdentityView | None = Field(None, description="the identity, if it matches")


def verify_response(verification: Verification, precision: str) -> VerifyResponse:
    decision = verification.decision
    return VerifyResponse(
        match=verification.match,
        score=round(verification.score, 6),
        overruled_by_correction=verification.overruled,
        face_a=face_view(verification.face_a),
        face_b=None if verification.face_b is None else face_view(verification.face_b),
        identity=_matched(verification),
        **decision_fields(verification.threshold, verification.fmr, decision.fpir, verification.model_id, precision),
    )


def _matched(verification: Verification) -> IdentityView | None:
    """Returns the identity only if it matches: a probe of another person must not reveal data about the identity."""
    if verification.identity is None or not verification.match:
        return None
    return identity_view(verification.identity)
