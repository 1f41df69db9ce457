"""Validated fields of a person. Requests and the rows of bulk enrolments use the same types."""

import json
from typing import Annotated, Any

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from service.json_values import is_storable, problem_of

MAX_METADATA_CHARS = 16_384


def storable(text: str) -> str:
    """Returns the text. Raises PydanticCustomError for NUL and unpaired surrogates, which PostgreSQL cannot store."""
    if not is_storable(text):
        raise PydanticCustomError("not_text", "must not contain NUL or unpaired surrogates")
    return text


def _storable_json(value: dict[str, Any]) -> dict[str, Any]:
    if (problem := problem_of(value)) is not None:
        raise PydanticCustomError("not_json", "{problem}", {"problem": problem})
    if len(json.dumps(value)) > MAX_METADATA_CHARS:
        raise PydanticCustomError("too_long", "must not be longer than 16,384 characters as JSON")
    return value


def _trimmed(text: str) -> str:
    if not (trimmed := text.strip()):
        raise PydanticCustomError("empty", "must not consist of spaces")
    return trimmed


Name = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(storable), AfterValidator(_trimmed)]
Metadata = Annotated[dict[str, Any], AfterValidator(_storable_json)]
