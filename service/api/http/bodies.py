"""Reads the body of a request, JSON or multipart, into one document."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel
from pydantic_core import from_json
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from service.api.http.json_limits import count_elements, read_json, require_few
from service.api.http.problems import EMPTY_BODY
from service.errors import InvalidFilter, MalformedBody, UnsupportedMediaType

Body = TypeVar("Body", bound=BaseModel)
JSON, MULTIPART = "application/json", "multipart/form-data"
LIST_FIELDS = {"images"}
JSON_FIELDS = {"metadata", "boxes", "box", "box_a", "box_b", "filter", "embeddings", "fields"}
"""Form fields that hold JSON text."""
THREAD_FROM_BYTES = 256 * 1024
"""A larger JSON body is parsed on another thread, so that the event loop stays responsive."""
MAX_PARTS = 128
MAX_FIELD = 4 * 1024**2
"""Bytes of a text field. `limits.max_body_bytes` limits the whole body before it is parsed."""
_PARSER = ThreadPoolExecutor(1, thread_name_prefix="parse")
"""Parses large bodies one at a time: each takes up to three times its size in memory."""


class _InMemoryParser(MultiPartParser):
    """Keeps uploaded pictures in memory: a temporary file would leave faces on the disk."""

    spool_max_size = 1024**3


def media_type(request: Request) -> str:
    """Returns the media type of the body without parameters, in lower case."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_body(request: Request, document: type[Body]) -> Body:
    """Parses and validates the body.

    Raises:
        UnsupportedMediaType, MalformedBody
        pydantic.ValidationError: the document is invalid.
    """
    kind = media_type(request)
    if kind == MULTIPART:
        return document.model_validate(await _read_form(request))
    if kind == JSON or kind.endswith("+json"):
        body = await read_json(request)
        if not body:
            raise MalformedBody(EMPTY_BODY)
        if len(body) < THREAD_FROM_BYTES:
            return document.model_validate_json(body)
        return await asyncio.get_running_loop().run_in_executor(_PARSER, document.model_validate_json, body)
    if not kind and not await request.body():
        return document.model_validate({})
    raise UnsupportedMediaType(
        f"the Content-Type is {kind or 'missing'}; send {MULTIPART}, or {JSON} with pictures in Base64"
    )


def metadata_filter(text: str) -> dict[str, Any]:
    """Parses a filter in a query parameter. Raises InvalidFilter."""
    try:
        value = from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise InvalidFilter(f"the filter is not JSON: {error}", pointer="/filter") from None
    if not isinstance(value, dict):
        raise InvalidFilter("the filter must be a JSON object", pointer="/filter")
    return value


async def _read_form(request: Request) -> dict[str, Any]:
    limits = {"max_files": MAX_PARTS, "max_fields": MAX_PARTS, "max_part_size": MAX_FIELD}
    parser = _InMemoryParser(request.headers, request.stream(), **limits)
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, LookupError, UnicodeError) as error:
        raise MalformedBody(f"the multipart body cannot be parsed: {getattr(error, 'message', error)}") from None
    try:
        return await _values(form)
    finally:
        await form.close()


async def _values(form: FormData) -> dict[str, Any]:
    """Returns the fields of a form. An empty field counts as absent, because HTML forms send every field."""
    values: dict[str, Any] = {}
    for name in form:
        parts = [await part.read() if isinstance(part, UploadFile) else part for part in form.getlist(name)]
        parts = [part for part in parts if part]
        if not parts:
            continue
        if name in LIST_FIELDS:
            values[name] = parts
        elif len(parts) > 1:
            raise MalformedBody(f"the form has {len(parts)} fields {name!r}; send one", pointer=f"/{name}")
        else:
            values[name] = _from_json(name, parts[0]) if name in JSON_FIELDS else parts[0]
    return values


def _from_json(name: str, value: str | bytes) -> Any:
    text = value.encode() if isinstance(value, str) else value
    require_few(count_elements(text))
    try:
        return from_json(text)
    except ValueError:
        raise MalformedBody(f"the form's field {name!r} must contain JSON", pointer=f"/{name}") from None
