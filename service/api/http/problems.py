"""Maps errors to problem documents (RFC 9457), for the whole API."""

import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match

from service.api.http.paths import path_of
from service.errors import (
    InternalError,
    InvalidBase64,
    InvalidRequest,
    MalformedBody,
    MethodNotAllowed,
    NotFound,
    RegistryError,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    all_errors,
)

MEDIA_TYPE = "application/problem+json"
METHODS = ("DELETE", "GET", "PATCH", "POST", "PUT")
MAX_FAULTS, MAX_KEY = 20, 80
"""Maximum number of faults that a problem lists, and of characters of a key in a pointer."""
DETAILS = {
    "bytes_type": "must be text: a picture in Base64",
    "extra_forbidden": "unknown field; /docs lists the fields of the operation",
}
"""Replacements for pydantic's messages, which refer to Python."""
EMPTY_BODY = "the body is empty; send JSON"
COLLECTION_IN_BODY = "`collection` is a query parameter: add ?collection=… to the URL"
CLIENT_CLOSED_REQUEST = 499
log = logging.getLogger(__name__)


class ClientGoneError(Exception):
    """The client closed the connection before the response was ready."""


class ProblemResponse(JSONResponse):
    media_type = MEDIA_TYPE


def problem(error: RegistryError, request: Request | None = None) -> ProblemResponse:
    """Returns the problem document of an error."""
    document: dict[str, Any] = {
        "type": f"urn:identity-registry:problem:{error.code}",
        "title": error.title,
        "status": error.status,
        "code": error.code,
        "detail": error.detail,
    }
    if error.pointer is not None:
        document["pointer"] = error.pointer
    if request is not None:
        document["request_id"] = request.scope.get("request_id")
    headers = {"Retry-After": str(error.retry_after_s)} if isinstance(error, Unavailable | TooManyRequests) else {}
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    if document.get("request_id"):
        headers["X-Request-Id"] = str(document["request_id"])
    return ProblemResponse(document | error.extensions, status_code=error.status, headers=headers)


def problem_examples() -> dict[str, Any]:
    """Returns an example of every error code for the OpenAPI document."""
    return {
        kind.code: {
            "summary": f"{kind.status} {kind.title}",
            "value": {
                "type": f"urn:identity-registry:problem:{kind.code}",
                "title": kind.title,
                "status": kind.status,
                "code": kind.code,
                "detail": "what is wrong, and what to change",
            },
        }
        for kind in all_errors()
    }


def from_validation(error: ValidationError | RequestValidationError) -> RegistryError:
    """Returns the error for an invalid document, with the JSON pointer of each fault.

    Values are not repeated, because they may be pictures.
    """
    if isinstance(error, ValidationError):
        items: Sequence[Any] = error.errors(include_url=False, include_context=False, include_input=False)
        locations = [item["loc"] for item in items]
    else:
        items = error.errors()
        # FastAPI names the part of the request first; pointers are relative to the body or the parameters.
        locations = [item["loc"][1:] for item in items]
    faults = [
        {"pointer": _pointer(location), "detail": _detail(item, location)}
        for item, location in list(zip(items, locations, strict=True))[:MAX_FAULTS]
    ]
    kinds = {item["type"] for item in items}
    if kinds == {"json_invalid"}:
        return MalformedBody(f"the body is not JSON: {faults[0]['detail']}")
    kind = InvalidBase64 if kinds == {InvalidBase64.code} else InvalidRequest
    detail = "; ".join(": ".join(filter(None, (fault["pointer"], fault["detail"]))) for fault in faults)
    return kind(detail, pointer=faults[0]["pointer"], errors=faults)


def _detail(item: Any, location: Sequence[int | str]) -> str:
    if item["type"] == "extra_forbidden" and tuple(location) == ("collection",):
        return COLLECTION_IN_BODY
    if item["type"] == "missing" and not location:
        return EMPTY_BODY
    return DETAILS.get(item["type"], item["msg"])


def _pointer(location: Sequence[int | str]) -> str:
    """Returns a JSON pointer (RFC 6901). The empty string is the whole body."""
    parts = (str(part)[:MAX_KEY].replace("~", "~0").replace("/", "~1") for part in location)
    return "".join(f"/{part}" for part in parts)


def _methods(request: Request) -> list[str]:
    """Returns the methods that routes support at the path of the request."""
    scopes = {method: {**request.scope, "method": method} for method in METHODS}
    routes = request.app.routes
    return [name for name, scope in scopes.items() if any(route.matches(scope)[0] is Match.FULL for route in routes)]


def install_handlers(app: FastAPI) -> None:
    """Registers the handlers that respond to every error with a problem document."""

    @app.exception_handler(RegistryError)
    async def registry_error(request: Request, error: RegistryError) -> ProblemResponse:
        return problem(error, request)

    @app.exception_handler(RequestValidationError)
    @app.exception_handler(ValidationError)
    async def validation_error(request: Request, error: ValidationError | RequestValidationError) -> ProblemResponse:
        return problem(from_validation(error), request)

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> ProblemResponse:
        kinds: dict[int, type[RegistryError]] = {404: NotFound, 405: MethodNotAllowed}
        kind = kinds.get(error.status_code, MalformedBody if error.status_code < 500 else InternalError)
        allowed = ", ".join(_methods(request)) if error.status_code == 405 else ""
        path = path_of(request.scope)  # `request.url` raises ValueError for a malformed Host header
        details = {
            404: f"{path} is not a path of this service; /docs lists the paths",
            405: f"{path} does not support {request.method}; use {allowed}",
        }
        response = problem(kind(details.get(error.status_code, HTTPStatus(error.status_code).phrase)), request)
        response.headers.update(error.headers or {})
        if allowed:
            response.headers["Allow"] = allowed
        return response

    @app.exception_handler(ClientGoneError)
    @app.exception_handler(ClientDisconnect)
    async def client_gone(request: Request, error: Exception) -> Response:
        """Returns a response with status 499. The client has disconnected; only metrics and logs record the status."""
        return Response(status_code=CLIENT_CLOSED_REQUEST)

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> ProblemResponse:
        log.error("request %s failed", request.scope.get("request_id"), exc_info=error)
        return problem(
            InternalError("an unexpected error occurred; the service logs it with the id of this request"), request
        )
