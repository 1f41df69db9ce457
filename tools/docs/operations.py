"""Renders the reference of the HTTP operations and their schemas from the OpenAPI document of the service."""

import functools
from collections.abc import Iterator, Mapping
from typing import Any

from service.runtime.api import create_app
from service.runtime.settings import Settings
from tools.docs.model_tables import cell, escape, sentence

Document = Mapping[str, Any]
METHODS = ("get", "post", "put", "patch", "delete")
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
    """Returns the OpenAPI document with the default settings. Opens no database and loads no model."""
    return create_app(Settings()).openapi()


def render() -> str:
    """Returns one section for each tag with all its operations."""
    api = document()
    tags: dict[str, list[str]] = {}
    for path, methods in api["paths"].items():
        for method in METHODS:
            if operation := methods.get(method):
                lines = list(_operation(method.upper(), path, operation, methods.get("parameters", [])))
                tags.setdefault((operation.get("tags") or ["other"])[0], []).extend(lines)
    return "\n".join(line for tag, lines in tags.items() for line in [f"## {tag.capitalize()}", "", *lines])


def render_overview() -> str:
    """Returns one table with method, path and summary of every operation, linked to the full description."""
    rows = ["| operation | summary | operation id |", "| --- | --- | --- |"]
    for path, methods in document()["paths"].items():
        for method in METHODS:
            if operation := methods.get(method):
                name = operation["operationId"]
                summary = cell(operation.get("summary", ""))
                rows.append(f"| [`{method.upper()} {path}`](#{name}) | {summary} | `{name}` |")
    return "\n".join(rows)


def render_schemas() -> str:
    """Returns one section for each schema component."""
    return "\n".join(
        line for name, schema in sorted(document()["components"]["schemas"].items()) for line in _schema(name, schema)
    )


def _operation(method: str, path: str, operation: Document, shared: list[Document]) -> Iterator[str]:
    name = operation["operationId"]
    yield from (f"### {operation.get('summary') or name} {{#{name}}}", "", f"`{method} {path}` · `{name}`", "")
    if text := operation.get("description"):
        yield from (escape(text), "")
    if parameters := [*shared, *operation.get("parameters", [])]:
        yield from ("| parameter | in | type | description |", "| --- | --- | --- | --- |")
        yield from (_parameter(_resolve(one)) for one in parameters)
        yield ""
    yield from _body(operation.get("requestBody"))
    yield from _responses(operation["responses"])


def _parameter(one: Document) -> str:
    required = " (required)" if one.get("required") else ""
    schema = one.get("schema", {})
    text = sentence(one.get("description") or schema.get("description", ""))
    return f"| `{one['name']}`{required} | {one['in']} | {_typed(schema)} | {cell(text)} |"


def _body(body: Document | None) -> Iterator[str]:
    if body is None:
        return
    for media_type, content in _resolve(body).get("content", {}).items():
        schema = content.get("schema", {})
        if "$ref" in schema:
            yield from (f"Body, `{media_type}`: {_type(schema)}.", "")
        if fields := _resolve(schema).get("properties"):
            if "$ref" not in schema:
                yield from (f"Body, `{media_type}`:", "")
            yield from _properties(_resolve(schema), fields, "field")
        elif "$ref" not in schema:
            yield from (f"Body, `{media_type}`: {_type(schema)}.", "")


def _responses(responses: Document) -> Iterator[str]:
    yield from ("| status | response | body |", "| --- | --- | --- |")
    for status, response in responses.items():
        resolved = _resolve(response)
        bodies = [
            f"`{media_type}`: {_type(content['schema'])}" if content.get("schema") else f"`{media_type}`"
            for media_type, content in resolved.get("content", {}).items()
        ]
        label = "any other" if status == "default" else status
        yield f"| {label} | {cell(sentence(resolved.get('description', '')))} | {'<br>'.join(bodies) or 'none'} |"
    yield ""


def _schema(name: str, schema: Document) -> Iterator[str]:
    yield from (f"## {name} {{#{_anchor(name)}}}", "")
    if text := schema.get("description"):
        yield from (escape(text), "")
    if fields := schema.get("properties"):
        yield from _properties(schema, fields, "member")
    else:
        yield from (f"{_typed(schema)}.", "")


def _properties(schema: Document, fields: Mapping[str, Document], column: str) -> Iterator[str]:
    required = schema.get("required", [])
    yield from (f"| {column} | type | description |", "| --- | --- | --- |")
    for name, field in fields.items():
        mark = " (required)" if name in required and column == "field" else ""
        yield f"| `{name}`{mark} | {_typed(field)} | {cell(sentence(field.get('description', '')))} |"
    yield ""


def _typed(schema: Document) -> str:
    """Returns the type of a schema with its ranges and its default."""
    words = [_type(schema)]
    default = schema.get("default")
    if default is not None and default != []:
        shown = str(default).lower() if isinstance(default, bool) else default
        words.append(f"default `{shown}`")
    return ", ".join(words)


def _type(schema: Document) -> str:
    if reference := schema.get("$ref"):
        name = reference.rpartition("/")[2]
        return f"[{name}]({SCHEMAS_PAGE}#{_anchor(name)})"
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            members = [_type(one) for one in schema[key]]
            return " or ".join(dict.fromkeys(member for member in members if member != "null")) + (
                " or null" if "null" in members else ""
            )
    if "enum" in schema or "const" in schema:
        return " or ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}{_ranges(schema)}"
    if schema.get("type") == "object":
        values = schema.get("additionalProperties")
        return f"object of {_type(values)}" if isinstance(values, dict) and values else "object"
    if schema.get("format") == "binary" or schema.get("contentMediaType") == "application/octet-stream":
        return "file"
    kind = schema.get("format") or schema.get("type", "any value")
    return f"{'text' if kind == 'string' else kind}{_ranges(schema)}"


def _ranges(schema: Document) -> str:
    parts = [words.format(f"{schema[name]:g}") for name, words in RANGES if name in schema]
    return f" {escape(', '.join(parts))}" if parts else ""


def _resolve(value: Document) -> Document:
    """Follows a reference into the components of the document."""
    if "$ref" not in value:
        return value
    target = document()
    for part in value["$ref"].removeprefix("#/").split("/"):
        target = target[part]
    return target


def _anchor(name: str) -> str:
    return name.lower()
