"""Renders the reference of the request and response documents from the OpenAPI document of the service."""

from collections.abc import Iterator

from tools.docs.model_tables import escape
from tools.docs.openapi import Document, anchor, document, properties_table, typed


def render() -> str:
    """Returns one section for each schema component, in alphabetical order."""
    schemas = document()["components"]["schemas"]
    return "\n".join(line for name, schema in sorted(schemas.items()) for line in _schema(name, schema))


def _schema(name: str, schema: Document) -> Iterator[str]:
    yield from (f"## {name} {{#{anchor(name)}}}", "")
    if text := schema.get("description"):
        yield from (escape(text), "")
    if fields := schema.get("properties"):
        yield from properties_table(schema, fields, "member")
    else:
        yield from (f"{typed(schema)}.", "")
