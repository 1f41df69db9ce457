"""Renders the reference of the HTTP operations from the OpenAPI document of the service."""

from collections.abc import Iterator

from tools.docs.model_tables import cell, escape, sentence
from tools.docs.openapi import Document, document, properties_table, resolve, type_of, typed

METHODS = ("get", "post", "put", "patch", "delete")


def render() -> str:
    """Returns a table of all operations, and one section for each tag with its operations."""
    tags: dict[str, list[str]] = {}
    overview = ["| operation | summary | operation id |", "| --- | --- | --- |"]
    for method, path, operation, shared in _all_operations():
        overview.append(_overview_row(method, path, operation))
        lines = list(_operation(method, path, operation, shared))
        tags.setdefault((operation.get("tags") or ["other"])[0], []).extend(lines)
    sections = [line for tag, lines in tags.items() for line in [f"## {tag.capitalize()}", "", *lines]]
    return "\n".join([*overview, "", *sections])


def _all_operations() -> Iterator[tuple[str, str, Document, list[Document]]]:
    """Yields method, path, operation and the parameters that all operations of the path share."""
    for path, methods in document()["paths"].items():
        for method in METHODS:
            if operation := methods.get(method):
                yield method.upper(), path, operation, methods.get("parameters", [])


def _overview_row(method: str, path: str, operation: Document) -> str:
    name = operation["operationId"]
    return f"| [`{method} {path}`](#{name}) | {cell(operation.get('summary', ''))} | `{name}` |"


def _operation(method: str, path: str, operation: Document, shared: list[Document]) -> Iterator[str]:
    name = operation["operationId"]
    yield from (f"### {operation.get('summary') or name} {{#{name}}}", "", f"`{method} {path}` · `{name}`", "")
    if text := operation.get("description"):
        yield from (escape(text), "")
    if parameters := [*shared, *operation.get("parameters", [])]:
        yield from ("| parameter | in | type | description |", "| --- | --- | --- | --- |")
        yield from (_parameter(resolve(parameter)) for parameter in parameters)
        yield ""
    yield from _body(operation.get("requestBody"))
    yield from _responses(operation["responses"])


def _parameter(parameter: Document) -> str:
    required = " (required)" if parameter.get("required") else ""
    schema = parameter.get("schema", {})
    text = sentence(parameter.get("description") or schema.get("description", ""))
    return f"| `{parameter['name']}`{required} | {parameter['in']} | {typed(schema)} | {cell(text)} |"


def _body(body: Document | None) -> Iterator[str]:
    if body is None:
        return
    for media_type, content in resolve(body).get("content", {}).items():
        schema = content.get("schema", {})
        if "$ref" in schema:
            yield from (f"Body, `{media_type}`: {type_of(schema)}.", "")
        if fields := resolve(schema).get("properties"):
            if "$ref" not in schema:
                yield from (f"Body, `{media_type}`:", "")
            yield from properties_table(resolve(schema), fields, "field")
        elif "$ref" not in schema:
            yield from (f"Body, `{media_type}`: {type_of(schema)}.", "")


def _responses(responses: Document) -> Iterator[str]:
    yield from ("| status | response | body |", "| --- | --- | --- |")
    for status, response in responses.items():
        resolved = resolve(response)
        bodies = [
            f"`{media_type}`: {type_of(content['schema'])}" if content.get("schema") else f"`{media_type}`"
            for media_type, content in resolved.get("content", {}).items()
        ]
        label = "any other" if status == "default" else status
        yield f"| {label} | {cell(sentence(resolved.get('description', '')))} | {'<br>'.join(bodies) or 'none'} |"
    yield ""
