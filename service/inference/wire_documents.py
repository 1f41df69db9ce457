"""Types of the bodies that `service.inference.wire` decodes: pydantic checks every field."""

from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, Field, StrictBool, StrictBytes, StrictStr, TypeAdapter

from service.inference.engine import FaceChoice
from service.json_values import problem_of
from service.strict_model import Strict

MAX_SIDE = 2**31
MAX_NESTING = 8
RESERVED = {"type", "title", "status", "code", "detail", "pointer", "request_id"}
"""Members of a problem document that an error's extensions must not replace."""


def _extensions(value: dict[str, Any]) -> dict[str, Any]:
    if RESERVED & value.keys():
        raise ValueError("an extension has the name of a member of problem documents")
    if (problem := problem_of(value, MAX_NESTING)) is not None:
        raise ValueError(problem)
    return value


Number: TypeAlias = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Side: TypeAlias = Annotated[int, Field(strict=True, gt=0, lt=MAX_SIDE)]
Box: TypeAlias = tuple[Number, Number, Number, Number]
PictureFields: TypeAlias = tuple[
    StrictBytes, FaceChoice, Box | None, StrictBool, StrictStr | None, StrictBool, StrictBool
]
"""The attributes of `Picture`, in their order."""
DetectionFields: TypeAlias = tuple[Number, Number, Number, Number, Number, StrictBytes | None, StrictBool]
"""Box, score, 5 x 3 landmarks as float32, and whether the caller has drawn the box."""


class FaultFields(Strict):
    """The error of a picture."""

    code: Annotated[StrictStr, Field(max_length=64)]
    detail: Annotated[StrictStr, Field(max_length=4096)]
    pointer: Annotated[StrictStr, Field(max_length=256)] | None
    extensions: Annotated[dict[StrictStr, Any], AfterValidator(_extensions)]


class FaceFields(Strict):
    """A face with its embedding as float32."""

    detection: DetectionFields
    quality: tuple[Number, Number, Number, Number, Number, Number | None]
    embedding: StrictBytes
    crop: StrictBytes | None


class ObservationFields(Strict):
    """The faces of a picture."""

    size: tuple[Side, Side]
    detections: list[DetectionFields]
    faces: list[FaceFields]
    likely_cause: Annotated[StrictStr, Field(max_length=500)] | None
    truncated: StrictBool


_PICTURES = TypeAdapter(list[PictureFields])
_RESULTS = TypeAdapter(list[FaultFields | ObservationFields])


def picture_fields(items: object) -> list[PictureFields]:
    """Raises pydantic.ValidationError if the items are not pictures."""
    return _PICTURES.validate_python(items)


def result_fields(items: object) -> list[FaultFields | ObservationFields]:
    """Raises pydantic.ValidationError if the items are not results."""
    return _RESULTS.validate_python(items)
