"""Reading a request's body, JSON or multipart, into one document."""

import asyncio
import json
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from service.errors import MalformedBody, UnsupportedMediaType

Body = TypeVar("Body", bound=BaseModel)
JSON, MULTIPART = "application/json", "multipart/form-data"
LISTS = {"images"}
JSON_FIELDS = {"metadata", "boxes", "box", "box_a", "box_b"}
LARGE = 256 * 1024
"""Bytes from which on a body is read on another thread, so that others are answered meanwhile."""
MAX_PARTS = 128


class _InMemoryParser(MultiPartParser):
    """Uploaded pictures stay in memory: a spooled file would leave faces on the disk."""

    spool_max_size = 1024**3


async def read_body(request: Request, document: type[Body]) -> Body:
    """Parse and check the body.

    Raises:
        UnsupportedMediaType, MalformedBody
        pydantic.ValidationError: the document does not have the expected form.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == JSON or kind.endswith("+json"):
        body = await request.body()
        if len(body) < LARGE:
            return document.model_validate_json(body)
        return await asyncio.to_thread(document.model_validate_json, body)
    if kind == MULTIPART:
        return document.model_validate(await _read_form(request))
    raise UnsupportedMediaType(f"Content-Type {kind or '(none)'}: send {JSON} with Base64 images, or {MULTIPART}")


def body_schema(document: type[BaseModel]) -> dict[str, Any]:
    """OpenAPI's description of a body that may come either way."""
    schema = document.model_json_schema(ref_template="#/components/schemas/{model}")
    schema.pop("$defs", None)
    return {"requestBody": {"required": True, "content": {JSON: {"schema": schema}, MULTIPART: {"schema": schema}}}}


async def _read_form(request: Request) -> dict[str, Any]:
    parser = _InMemoryParser(request.headers, request.stream(), max_files=MAX_PARTS, max_fields=MAX_PARTS)
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError) as error:
        raise MalformedBody(f"the multipart body can't be read: {getattr(error, 'message', error)}") from None
    try:
        return await _values(form)
    finally:
        await form.close()


async def _values(form: FormData) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name in form:
        parts = [await part.read() if isinstance(part, UploadFile) else part for part in form.getlist(name)]
        if name in LISTS:
            values[name] = parts
        elif len(parts) > 1:
            raise MalformedBody(f"the field {name!r} stands {len(parts)} times in the form", pointer=f"/{name}")
        else:
            values[name] = _from_json(name, parts[0]) if name in JSON_FIELDS else parts[0]
    return values


def _from_json(name: str, value: str | bytes) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        raise MalformedBody(f"the form's field {name!r} must hold JSON", pointer=f"/{name}") from None
