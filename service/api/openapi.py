"""The OpenAPI document: named components, one shared error response, and schemas that suit code generators."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from service.api.http.forms import DOCUMENTS, FORMS, REFERENCE, description_with_default, form_schema
from service.api.http.problems import MEDIA_TYPE, problem_examples
from service.api.schemas.problems import Problem

Schema = dict[str, Any]
PROBLEM_RESPONSE = "Problem"
METHODS = ("get", "post", "patch", "delete")
NULL = {"type": "null"}
PICTURE = "a picture as Base64"
EXAMPLES: dict[str, dict[str, Any]] = {
    "ActivationRequest": {"force": False},
    "CollectionCreateRequest": {"name": "staff"},
    "CollectionUpdateRequest": {"fpir": 0.01},
    "CorrectionRequest": {"image": PICTURE},
    "EmbedRequest": {"image": PICTURE},
    "IdentityUpdateRequest": {"label": "Ada Lovelace"},
    "PredictRequest": {"image": PICTURE},
    "RegisterRequest": {"label": "Ada Lovelace", "images": [PICTURE]},
    "SearchRequest": {"image": PICTURE},
    "SplitRequest": {"template_ids": ["00000000-0000-0000-0000-000000000000"], "external_id": "ada"},
    "VerifyRequest": {"image_a": PICTURE, "image_b": PICTURE},
}
"""The necessary fields of JSON documents. Without an example, Swagger UI sends a sample value for every field."""


def operation_id(route: APIRoute) -> str:
    """Returns the name of the route's function, which generators use as the name of their function."""
    return route.name


def install_openapi(app: FastAPI) -> None:
    """Replaces the application's OpenAPI document by that of `openapi_document`, which is computed once."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = openapi_document(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def openapi_document(app: FastAPI) -> dict[str, Any]:
    """Returns the OpenAPI document of the application."""
    document = get_openapi(
        title=app.title, version=app.version, summary=app.summary, routes=app.routes, tags=app.openapi_tags
    )
    operations = [path[method] for path in document["paths"].values() for method in METHODS if method in path]
    components = document.setdefault("components", {})
    components["responses"] = {PROBLEM_RESPONSE: _problem_response()}
    for operation in operations:
        operation["responses"].pop("422", None)
        operation["responses"]["default"] = {"$ref": f"#/components/responses/{PROBLEM_RESPONSE}"}
        for parameter in operation.get("parameters", []):
            parameter["schema"] = _without_null(parameter["schema"])
    components["schemas"] = _schemas(components.get("schemas", {}), operations)
    return document


def _problem_response() -> dict[str, Any]:
    schema = {"$ref": REFERENCE.format(model=Problem.__name__)}
    return {
        "description": "A problem (RFC 9457). `code` identifies the kind of error; `detail` says what to change.",
        "content": {MEDIA_TYPE: {"schema": schema, "examples": problem_examples()}},
    }


def _schemas(described: Mapping[str, Schema], operations: list[dict[str, Any]]) -> dict[str, Schema]:
    """Returns all components: those that FastAPI has described, the documents that routes read, and their forms."""
    models: list[type[BaseModel]] = [*DOCUMENTS.values(), Problem]
    _, definitions = models_json_schema([(model, "validation") for model in models], ref_template=REFERENCE)
    forms = {name: form_schema(document) for name, document in FORMS.items()}
    schemas = {**described, **definitions["$defs"], **forms}
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    requests = _reachable((operation.get("requestBody") for operation in operations), schemas)
    responses = _reachable((operation["responses"] for operation in operations), schemas)
    for name, schema in schemas.items():
        _tidy_fields(schema)
        if name in EXAMPLES:
            schema["example"] = EXAMPLES[name]
        if name in responses - requests - {Problem.__name__}:
            _require_all(schema)
        else:
            _describe_defaults(schema)
    return dict(sorted(schemas.items()))


def _without_null(schema: Schema) -> Schema:
    """Returns the schema of a parameter without `null`, which a URL and a header cannot hold, and without the title."""
    choices = [choice for choice in schema.get("anyOf", []) if choice != NULL]
    dropped = {"anyOf", "title"} if len(choices) == 1 else {"title"}
    inner = choices[0] if len(choices) == 1 else {}
    return {**inner, **{key: value for key, value in schema.items() if key not in dropped}}


def _tidy_fields(schema: Schema) -> None:
    """Removes titles of fields, which repeat their names, and moves the description of a nullable type to its field."""
    for field in schema.get("properties", {}).values():
        field.pop("title", None)
        for choice in field.get("anyOf", []):
            if description := choice.pop("description", None):
                field.setdefault("description", description)


def _require_all(schema: Schema) -> None:
    """Marks all fields of a response as required: the service omits none, so a client need not handle absence."""
    if "properties" in schema:
        schema["required"] = list(schema["properties"])
        for field in schema["properties"].values():
            field.pop("default", None)


def _describe_defaults(schema: Schema) -> None:
    """Moves the defaults of a request into the descriptions: openapi-typescript requires fields that have a default."""
    for field in schema.get("properties", {}).values():
        field |= description_with_default(field)
        field.pop("default", None)


def _reachable(nodes: Iterable[Any], schemas: Mapping[str, Schema]) -> set[str]:
    """Returns the names of the schemas to which the nodes refer directly or through other schemas."""
    reached: set[str] = set()
    pending = {name for node in nodes for name in _references(node)}
    while pending:
        name = pending.pop()
        reached.add(name)
        pending |= {other for other in _references(schemas.get(name)) if other not in reached}
    return reached


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        reference = node.get("$ref")
        if isinstance(reference, str):
            yield reference.rpartition("/")[2]
        for value in node.values():
            yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)
