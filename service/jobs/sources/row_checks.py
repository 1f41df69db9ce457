"""Validates the rows of a bulk enrolment with the types of the API."""

import json
from dataclasses import replace
from typing import Annotated, Any

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from service.errors import InvalidRequest
from service.gallery.jobs.records import NewRow, RowStatus
from service.recognition.person_fields import Metadata, Name, storable

MAX_NAME, MAX_PATH = 256, 4096
"""Maximum numbers of characters of a name and of a file's path."""
PATH: TypeAdapter[str] = TypeAdapter(Annotated[str, Field(min_length=1, max_length=MAX_PATH), AfterValidator(storable)])
NAME: TypeAdapter[str] = TypeAdapter(Name)
METADATA: TypeAdapter[dict[str, Any]] = TypeAdapter(Metadata)
FIELDS: dict[str, TypeAdapter[Any]] = {"source": PATH, "external_id": NAME, "label": NAME, "metadata": METADATA}


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
