"""OpenAPI descriptions of request bodies that are accepted as multipart or JSON."""

from typing import Any

from pydantic import BaseModel

from service.api.http.bodies import JSON, JSON_FIELDS, LIST_FIELDS, MULTIPART

REFERENCE = "#/components/schemas/{model}"
DOCUMENTS: dict[str, type[BaseModel]] = {}
"""Every document that `body_of` has described, by its name; `service.api.openapi` adds them to the components."""


def body_of(document: type[BaseModel]) -> dict[str, Any]:
    """Returns the `openapi_extra` of an operation whose body is this document. Multipart is the first choice."""
    DOCUMENTS[document.__name__] = document
    form = {"schema": {"$ref": REFERENCE.format(model=form_name(document))}}
    json = {"schema": {"$ref": REFERENCE.format(model=document.__name__)}}
    return {"requestBody": {"required": True, "content": {MULTIPART: form, JSON: json}}}


def form_name(document: type[BaseModel]) -> str:
    """Returns the component name of the multipart form, for example RegisterForm for RegisterRequest."""
    return document.__name__.removesuffix("Request") + "Form"


def form_schema(document: type[BaseModel]) -> dict[str, Any]:
    """Returns the schema of the multipart form. Pictures are files, and structured fields are JSON text.

    The fields have no default and no example, so that forms which tools generate from the schema are empty. Pictures
    come first, because a form without a picture is rarely useful.
    """
    schema = document.model_json_schema(ref_template=REFERENCE)
    fields = {name: _form_field(name, field, schema) for name, field in schema["properties"].items()}
    if "images" in fields and "image" not in fields:
        fields = {"image": _file("one picture; for several send `images`"), **fields}
    files = {name: field for name, field in fields.items() if _is_file(field)}
    # In a form an embedding is Base64 text; the field `embeddings` is JSON text.
    properties = files | {name: field for name, field in fields.items() if name not in files}
    required = {"required": schema["required"]} if "required" in schema else {}
    return {"type": "object", "title": form_name(document), "properties": properties, **required}


def _form_field(name: str, field: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    field = _resolved(field, schema)
    description = {"description": field["description"]} if "description" in field else {}
    if name in LIST_FIELDS:
        return {"type": "array", "items": {"type": "string", "format": "binary"}, **description}
    if field.get("contentEncoding") == "base64":
        return _file(field.get("description", ""))
    if name in JSON_FIELDS:
        return {"type": "string", "contentMediaType": "application/json", "description": _json_text(field)}
    kept = ("type", "format", "enum", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "maxLength")
    return {key: field[key] for key in kept if key in field} | description


def _resolved(field: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """Returns a field without references and without `null`, which a form cannot send."""
    for choice in field.get("anyOf", []):
        if choice.get("type") != "null":
            field = {**_resolved(choice, schema), **{key: value for key, value in field.items() if key != "anyOf"}}
            break
    if "$ref" in field:
        target = schema["$defs"][field["$ref"].rpartition("/")[2]]
        field = {**target, **{key: value for key, value in field.items() if key != "$ref"}}
    return field


def _file(description: str) -> dict[str, Any]:
    return {"type": "string", "format": "binary", "description": description.replace(" as Base64", " file")}


def _is_file(field: dict[str, Any]) -> bool:
    return field.get("format") == "binary" or field.get("items", {}).get("format") == "binary"


def _json_text(field: dict[str, Any]) -> str:
    return f"{field.get('description', '')} (JSON text)".strip()
