"""Validates the rows of a bulk enrolment with the types of the API."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from service.errors import InvalidRequest
from service.gallery.jobs.records import NewRow, RowStatus
from service.recognition.person_fields import Metadata, Name, storable

MAX_COORDINATE = 1e6
MAX_NAME, MAX_PATH = 256, 4096
"""Maximum numbers of characters of a name and of a file's path."""
Side = Annotated[float, Field(ge=-MAX_COORDINATE, le=MAX_COORDINATE, allow_inf_nan=False)]
Box = tuple[float, float, float, float]


def _has_area(box: Box) -> Box:
    if box[0] >= box[2] or box[1] >= box[3]:
        raise PydanticCustomError(
            "empty_box", "must be x_min, y_min, x_max, y_max with x_min < x_max and y_min < y_max"
        )
    return box


PATH: TypeAdapter[str] = TypeAdapter(Annotated[str, Field(min_length=1, max_length=MAX_PATH), AfterValidator(storable)])
NAME: TypeAdapter[str] = TypeAdapter(Name)
METADATA: TypeAdapter[dict[str, Any]] = TypeAdapter(Metadata)
BOX: TypeAdapter[tuple[float, float, float, float]] = TypeAdapter(
    Annotated[tuple[Side, Side, Side, Side], AfterValidator(_has_area)]
)
FIELDS: dict[str, TypeAdapter[Any]] = {
    "source": PATH,
    "external_id": NAME,
    "label": NAME,
    "metadata": METADATA,
    "box": BOX,
}


def checked(row: NewRow) -> NewRow:
    """Returns the row, or a rejected one if a request with the same values would be refused."""
    if row.status is not None:
        return row
    values: dict[str, Any] = {}
    for name, adapter in FIELDS.items():
        value = getattr(row, name)
        try:
            if value is not None:
                values[name] = adapter.validate_python(value, strict=True)
        except ValidationError as error:
            shown = "file" if name == "source" else name
            return rejected(row, f"`{shown}`: {error.errors(include_input=False, include_url=False)[0]['msg']}")
    return replace(row, **values)


def as_box(numbers: Sequence[float]) -> Box:
    """Returns a stored box."""
    x_min, y_min, x_max, y_max = numbers
    return x_min, y_min, x_max, y_max


def with_box(row: NewRow, text: str) -> NewRow:
    """Returns the row with the box of a text such as `10 20 110 140`, or a rejected one."""
    try:
        return replace(row, box=as_box([float(number) for number in text.replace(",", " ").split()]))
    except ValueError:
        return rejected(row, "`box` is not four numbers: x_min y_min x_max y_max")


def with_metadata(row: NewRow, text: str) -> NewRow:
    """Returns the row with the metadata of this JSON text, or a rejected one."""
    try:
        metadata = json.loads(text)
    except (ValueError, RecursionError):
        metadata = None
    if not isinstance(metadata, dict):
        return rejected(row, "`metadata` is not a JSON object")
    return replace(row, metadata=metadata)


def rejected(row: NewRow, detail: str, code: str = InvalidRequest.code) -> NewRow:
    """Returns a final row with the reason. Its strings are cut and replaced so that PostgreSQL can store them."""
    return NewRow(
        storable_text(row.source)[:MAX_PATH],
        storable_text(row.external_id)[:MAX_NAME],
        status=RowStatus.REJECTED,
        code=code,
        detail=storable_text(detail),
    )


def storable_text(text: str) -> str:
    """Replaces the characters that PostgreSQL cannot store."""
    return text.encode("utf-8", "replace").decode().replace("\x00", "?")
