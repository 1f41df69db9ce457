"""Documents of corrections."""

import uuid
from datetime import datetime
from typing import Self

from pydantic import BaseModel, Field, model_validator
from pydantic_core import PydanticCustomError

from service.api.schemas.fields import (
    BoxCorners,
    EmbeddingBytes,
    EmbeddingModel,
    FaceSelection,
    ImageBytes,
    require_box,
)
from service.gallery.people.corrections import Correction
from service.inference.engine import FaceChoice


class CorrectionRequest(FaceSelection):
    """A face that does not show the identity."""

    image: ImageBytes | None = None
    embedding: EmbeddingBytes | None = Field(None, description="instead of `image`")
    model_id: EmbeddingModel | None = None
    box: BoxCorners | None = None

    @model_validator(mode="after")
    def _require_one_face(self) -> Self:
        if (self.image is None) == (self.embedding is None):
            raise PydanticCustomError("no_picture", "send either `image` or `embedding`")
        if self.face is FaceChoice.ALL:
            raise PydanticCustomError("one_face", "a correction has one face; `face=all` is for search")
        if self.image is not None:
            require_box(self.face, self.box, "box")
        return self


class CorrectionView(BaseModel):
    id: uuid.UUID
    model_id: str
    created_at: datetime


class CorrectionsResponse(BaseModel):
    corrections: list[CorrectionView]
    next_cursor: str | None


def correction_view(correction: Correction) -> CorrectionView:
    return CorrectionView.model_validate(correction, from_attributes=True)
