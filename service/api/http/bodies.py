"""Reading a request's body, JSON or multipart, into one document."""

import asyncio
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel
from pydantic_core import from_json
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from service.errors import InvalidFilter, MalformedBody, UnsupportedMediaType

Body = TypeVar("Body", bound=BaseModel)
JSON, MULTIPART = "application/json", "multipart/form-data"
LISTS = {"images"}
JSON_FIELDS = {"metadata", "boxes", "box", "box_a", "box_b", "identities", "template_ids", "filter", "embeddings"}
LARGE = 256 * 1024
"""Bytes from which on a body is read on another thread, so that others are answered meanwhile."""
MAX_PARTS = 128
MAX_FIELD = 1024**3
"""Bytes of a text field, which may be a picture in Base64; the whole body is limited before."""


class _InMemoryParser(MultiPartParser):
    """Uploaded pictures stay in memory: a spooled file would leave faces on the disk."""

    spool_max_size = 1024**3


def media_type(request: Request) -> str:
    """What the body is said to be, without parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_body(request: Request, document: type[Body]) -> Body:
    """Parse and check the body; none at all says nothing.

    Raises:
        UnsupportedMediaType, MalformedBody
        pydantic.ValidationError: the document does not have the expected form.
    """
    kind = media_type(request)
    if kind == JSON or kind.endswith("+json"):
        body = await request.body()
        if len(body) < LARGE:
            return document.model_validate_json(body)
        return await asyncio.to_thread(document.model_validate_json, body)
    if kind == MULTIPART:
        return document.model_validate(await _read_form(request))
    if not kind and not await request.body():
        return document.model_validate({})
    raise UnsupportedMediaType(f"Content-Type {kind or '(none)'}: send {JSON} with Base64 images, or {MULTIPART}")


def metadata_filter(words: str) -> dict[str, Any]:
    """A filter in the address. Raises InvalidFilter."""
    try:
        value = from_json(words)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise InvalidFilter("the filter is not a JSON object", pointer="/filter")
    return value


def operation(document: type[BaseModel]) -> dict[str, Any]:
    """OpenAPI's description of a body that may come either way."""
    schema = _inlined(document.model_json_schema())
    form = {**schema, "properties": {name: _as_file(item) for name, item in schema["properties"].items()}}
    form.pop("example", None)
    return {"requestBody": {"required": True, "content": {JSON: {"schema": schema}, MULTIPART: {"schema": form}}}}


def _inlined(schema: dict[str, Any]) -> Any:
    """The schema with its definitions in the places that refer to them."""
    definitions = schema.pop("$defs", {})

    def resolve(node: Any) -> Any:
        if isinstance(node, list):
            return [resolve(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            name = node["$ref"].rpartition("/")[2]
            return resolve({**definitions[name], **{key: value for key, value in node.items() if key != "$ref"}})
        return {key: resolve(value) for key, value in node.items()}

    return resolve(schema)


def _as_file(node: Any) -> Any:
    """In a form a picture is a file."""
    if isinstance(node, list):
        return [_as_file(item) for item in node]
    if not isinstance(node, dict):
        return node
    if node.get("contentEncoding") == "base64":
        return {"type": "string", "format": "binary", "description": node.get("description", "")}
    return {key: _as_file(value) for key, value in node.items()}


async def _read_form(request: Request) -> dict[str, Any]:
    limits = {"max_files": MAX_PARTS, "max_fields": MAX_PARTS, "max_part_size": MAX_FIELD}
    parser = _InMemoryParser(request.headers, request.stream(), **limits)
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, LookupError, UnicodeError) as error:
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
        return from_json(value)
    except ValueError:
        raise MalformedBody(f"the form's field {name!r} must hold JSON", pointer=f"/{name}") from None
