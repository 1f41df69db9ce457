"""OpenAPI descriptions of request bodies that are accepted as multipart or JSON."""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from service.api.http.bodies import JSON, JSON_FIELDS, LIST_FIELDS, MULTIPART

REFERENCE = "#/components/schemas/{model}"
DOCUMENTS: dict[str, type[BaseModel]] = {}
"""The documents that routes read with `read_body`, by name; `service.api.openapi` adds them to the components."""
FORMS: dict[str, type[BaseModel]] = {}
"""The documents among them that are accepted as multipart, by the name of the form."""
BASE64 = " as Base64; a data URL is accepted"
"""This part of a picture's description applies to JSON only."""
MOST_USED = ("label", "external_id", "identity_id")
FORM_KEYWORDS = ("type", "format", "enum", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "maxLength")
EMPTY: dict[str, Any] = {"example": ""}
"""Swagger UI fills every field of a form with a sample value, and sends it, unless the field has an example."""
FILES: dict[str, Any] = {"type": "array", "items": {"type": "string", "format": "binary", **EMPTY}, "example": []}


def body_of(document: type[BaseModel]) -> dict[str, Any]:
    """Returns the `openapi_extra` of an operation whose body is this document. Multipart is the first choice."""
    DOCUMENTS[document.__name__] = document
    FORMS[form_name(document)] = document
    form = {"schema": {"$ref": REFERENCE.format(model=form_name(document))}}
    json = {"schema": {"$ref": REFERENCE.format(model=document.__name__)}}
    return {"requestBody": {"required": True, "content": {MULTIPART: form, JSON: json}}}


def form_name(document: type[BaseModel]) -> str:
    """Returns the component name of the multipart form, for example RegisterForm for RegisterRequest."""
    return document.__name__.removesuffix("Request") + "Form"


def form_schema(document: type[BaseModel]) -> dict[str, Any]:
    """Returns the schema of the multipart form. Pictures are files, and structured fields are JSON text.

    The examples are empty, so that tools which generate a form from the schema show empty fields. Pictures come first
    and names second, because most requests need only these fields.
    """
    schema = document.model_json_schema(ref_template=REFERENCE)
    fields = {name: _form_field(name, field, schema) for name, field in schema["properties"].items()}
    if "images" in fields and "image" not in fields:
        fields = {"image": _file("one picture; for several send `images`"), **fields}
    properties = dict(sorted(fields.items(), key=lambda item: _position(*item)))
    required = {"required": schema["required"]} if "required" in schema else {}
    return {"type": "object", "title": form_name(document), "properties": properties, **required}


def description_with_default(field: Mapping[str, Any]) -> dict[str, str]:
    """Returns the description of a field with its default, or an empty mapping for a field without both."""
    default = field.get("default")
    text = field.get("description", "")
    if default not in (None, []):
        value = default if isinstance(default, str) else json.dumps(default)
        text = "; ".join(filter(None, (text.rstrip("."), f"default: `{value}`")))
    return {"description": text} if text else {}


def _position(name: str, field: Mapping[str, Any]) -> int:
    if field.get("format") == "binary" or name in LIST_FIELDS:
        return -1
    return MOST_USED.index(name) if name in MOST_USED else len(MOST_USED)


def _form_field(name: str, field: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    reference, field = _resolved(field, schema)
    description = description_with_default(field)
    if name in LIST_FIELDS:
        return FILES | description
    if field.get("contentEncoding") == "base64":
        return _file(field.get("description", ""))
    if name in JSON_FIELDS:
        # Not `contentMediaType`, for which Swagger UI shows a button that chooses a file.
        parts = (field.get("description"), "JSON text")
        return {"type": "string", "description": "; ".join(filter(None, parts)), **EMPTY}
    if reference:
        return {"$ref": reference, **description, **EMPTY}
    return {key: field[key] for key in FORM_KEYWORDS if key in field} | description | EMPTY


def _resolved(field: dict[str, Any], schema: dict[str, Any]) -> tuple[str | None, dict[str, Any]]:
    """Returns the reference of a field, and the field without references and `null`, which a form cannot send."""
    reference = None
    for choice in field.get("anyOf", []):
        if choice.get("type") != "null":
            reference, resolved = _resolved(choice, schema)
            field = {**resolved, **{key: value for key, value in field.items() if key != "anyOf"}}
            break
    if "$ref" in field:
        reference = field["$ref"]
        target = schema["$defs"][reference.rpartition("/")[2]]
        field = {**target, **{key: value for key, value in field.items() if key != "$ref"}}
    return reference, field


def _file(description: str) -> dict[str, Any]:
    return {"type": "string", "format": "binary", "description": description.replace(BASE64, " file")}
