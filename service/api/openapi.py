"""The OpenAPI document: named components, one shared error response, and operation ids for code generators."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from service.api.http.forms import DOCUMENTS, REFERENCE, form_name, form_schema
from service.api.http.problems import MEDIA_TYPE, problem_examples
from service.api.schemas.problems import Problem

PROBLEM_RESPONSE = "Problem"
METHODS = ("get", "post", "patch", "delete")


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
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    models: list[type[BaseModel]] = [*DOCUMENTS.values(), Problem]
    _, definitions = models_json_schema([(model, "validation") for model in models], ref_template=REFERENCE)
    schemas.update(definitions["$defs"])
    schemas.update({form_name(model): form_schema(model) for model in DOCUMENTS.values()})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    components["responses"] = {PROBLEM_RESPONSE: _problem_response()}
    for path in document["paths"].values():
        for method in METHODS:
            if method in path:
                responses = path[method]["responses"]
                responses.pop("422", None)
                responses["default"] = {"$ref": f"#/components/responses/{PROBLEM_RESPONSE}"}
    components["schemas"] = dict(sorted(schemas.items()))
    return document


def _problem_response() -> dict[str, Any]:
    schema = {"$ref": REFERENCE.format(model=Problem.__name__)}
    return {
        "description": "A problem (RFC 9457). `code` identifies the kind of error; `detail` says what to change.",
        "content": {MEDIA_TYPE: {"schema": schema, "examples": problem_examples()}},
    }
