"""Reads the OpenAPI document of the service and renders its types as Markdown."""

import functools
from collections.abc import Iterator, Mapping
from typing import Any

from service.runtime.api import create_app
from service.runtime.settings import Settings
from tools.docs.model_tables import cell, escape, sentence

Document = Mapping[str, Any]
SCHEMAS_PAGE = "schemas.md"
RANGES = (
    ("minimum", "≥ {}"),
    ("exclusiveMinimum", "> {}"),
    ("maximum", "≤ {}"),
    ("exclusiveMaximum", "< {}"),
    ("minLength", "at least {} characters"),
    ("maxLength", "at most {} characters"),
    ("minItems", "at least {} entries"),
    ("maxItems", "at most {} entries"),
)


@functools.cache
def document() -> Document:
    """Returns the OpenAPI document. Opens no database and loads no model.

    `model_construct` takes the defaults alone: the pages do not depend on the configuration of this machine.
    """
    return create_app(Settings.model_construct()).openapi()


def properties_table(schema: Document, fields: Mapping[str, Document], column: str) -> Iterator[str]:
    required = schema.get("required", [])
    yield from (f"| {column} | type | description |", "| --- | --- | --- |")
    for name, field in fields.items():
        mark = " (required)" if name in required and column == "field" else ""
        yield f"| `{name}`{mark} | {typed(field)} | {cell(sentence(field.get('description', '')))} |"
    yield ""


def typed(schema: Document) -> str:
    """Returns the type of a schema with its ranges and its default."""
    words = [type_of(schema)]
    default = schema.get("default")
    if default is not None and default != []:
        shown = str(default).lower() if isinstance(default, bool) else default
        words.append(f"default `{shown}`")
    return ", ".join(words)


def type_of(schema: Document) -> str:
    if reference := schema.get("$ref"):
        name = reference.rpartition("/")[2]
        return f"[{name}]({SCHEMAS_PAGE}#{anchor(name)})"
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            members = [type_of(member) for member in schema[key]]
            return " or ".join(sorted(dict.fromkeys(members), key="null".__eq__))
    if "enum" in schema or "const" in schema:
        return " or ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return _list_type(schema)
    if schema.get("type") == "object":
        values = schema.get("additionalProperties")
        return f"object of {type_of(values)}" if isinstance(values, dict) and values else "object"
    return _scalar_type(schema)


def _list_type(schema: Document) -> str:
    if "prefixItems" in schema:
        return f"[{', '.join(type_of(item) for item in schema['prefixItems'])}]"
    return f"list of {type_of(schema.get('items', {}))}{_ranges(schema)}"


def _scalar_type(schema: Document) -> str:
    if schema.get("format") == "binary" or schema.get("contentMediaType") == "application/octet-stream":
        return "file"
    if schema.get("contentEncoding") == "base64":
        return "Base64 text"
    if schema.get("contentMediaType") == "application/json":
        return "JSON text"
    kind = schema.get("format") or schema.get("type", "any value")
    return f"{'text' if kind == 'string' else kind}{_ranges(schema)}"


def _ranges(schema: Document) -> str:
    parts = [words.format(f"{schema[name]:g}") for name, words in RANGES if name in schema]
    return f" {escape(', '.join(parts))}" if parts else ""


def resolve(value: Document) -> Document:
    """Follows a reference into the components of the document."""
    if "$ref" not in value:
        return value
    target = document()
    for part in value["$ref"].removeprefix("#/").split("/"):
        target = target[part]
    return target


def anchor(name: str) -> str:
    return name.lower()
