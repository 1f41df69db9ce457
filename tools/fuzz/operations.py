"""The operations of the OpenAPI document, with the names of their parameters and fields."""

import re
from dataclasses import dataclass
from typing import Any

MULTIPART, JSON, ZIP = "multipart/form-data", "application/json", "application/zip"
PARAMETER = re.compile(r"{(\w+)}")


@dataclass(frozen=True)
class Operation:
    """One method of a path.

    Attributes:
        queries: names of the query parameters.
        fields: names of the fields of the body.
        media_types: media types of the body; empty: the operation has none.
    """

    method: str
    path: str
    queries: tuple[str, ...]
    fields: tuple[str, ...]
    media_types: tuple[str, ...]

    @property
    def parameters(self) -> list[str]:
        """The names of the parameters in the path."""
        return PARAMETER.findall(self.path)


def operations_of(document: dict[str, Any]) -> list[Operation]:
    """Returns all operations of an OpenAPI document."""
    return [
        _operation(method.upper(), path, operation, document)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if method in ("get", "post", "put", "patch", "delete")
    ]


def _operation(method: str, path: str, operation: dict[str, Any], document: dict[str, Any]) -> Operation:
    parameters = operation.get("parameters", [])
    content = operation.get("requestBody", {}).get("content", {})
    fields = {name: None for media in content.values() for name in _properties(media.get("schema", {}), document)}
    queries = tuple(parameter["name"] for parameter in parameters if parameter["in"] == "query")
    return Operation(method, path, queries, tuple(fields), tuple(content))


def _properties(schema: dict[str, Any], document: dict[str, Any]) -> list[str]:
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return list(schema.get("properties", {}))
