"""Errors as RFC 9457 problem documents, in one place for the whole API."""

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
MAX_FAULTS, MAX_KEY = 20, 80
"""How many faults of one body are told, and how much of a key."""
WORDS = {
    "bytes_type": "must be text: a picture in Base64",
    "extra_forbidden": "there is no such field; /docs shows those that there are",
}
"""In the place of pydantic's, which speak of Python."""
CLIENT_CLOSED_REQUEST = 499
log = logging.getLogger(__name__)


class ClientGoneError(Exception):
    """The client closed the connection before its answer was ready; there is nobody left to tell."""


class ProblemResponse(JSONResponse):
    media_type = MEDIA_TYPE


def problem(error: RegistryError, request: Request | None = None) -> ProblemResponse:
    """The problem document of an error."""
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
    """One problem document of every code, for the OpenAPI page."""
    return {
        kind.code: {
            "summary": kind.title,
            "value": {
                "type": f"urn:identity-registry:problem:{kind.code}",
                "title": kind.title,
                "status": kind.status,
                "code": kind.code,
                "detail": f"what happened and what to change; docs/problems.md has a paragraph on {kind.code}",
                "request_id": "0b0f5cf1f4a34b06a6b0a4a1f4f1d7a2",
            },
        }
        for kind in all_errors()
    }


def from_validation(error: ValidationError | RequestValidationError) -> RegistryError:
    """What is wrong with a body, each fault with its JSON pointer. No value is repeated: it may be a picture."""
    if isinstance(error, ValidationError):
        found: Sequence[Any] = error.errors(include_url=False, include_context=False, include_input=False)
    else:
        found = error.errors()
    faults = [
        {"pointer": _pointer(item["loc"]), "detail": WORDS.get(item["type"], item["msg"])}
        for item in found[:MAX_FAULTS]
    ]
    kinds = {item["type"] for item in found}
    if kinds == {"json_invalid"}:
        return MalformedBody(f"the body is not JSON: {faults[0]['detail']}")
    kind = InvalidBase64 if kinds == {InvalidBase64.code} else InvalidRequest
    detail = "; ".join(": ".join(filter(None, (fault["pointer"], fault["detail"]))) for fault in faults)
    return kind(detail, pointer=faults[0]["pointer"], errors=faults)


def _pointer(location: Sequence[int | str]) -> str:
    """RFC 6901; the empty string is the whole body."""
    parts = (str(part)[:MAX_KEY].replace("~", "~0").replace("/", "~1") for part in location)
    return "".join(f"/{part}" for part in parts)


def install_handlers(app: FastAPI) -> None:
    """Answer every error of the application with a problem document."""

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
        words = {
            404: f"{request.url.path} is no address of this service; /docs lists them",
            405: f"{request.url.path} does not answer to {request.method}",
        }
        answer = problem(kind(words.get(error.status_code, HTTPStatus(error.status_code).phrase)), request)
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(ClientGoneError)
    @app.exception_handler(ClientDisconnect)
    async def client_gone(request: Request, error: Exception) -> Response:
        """Nobody reads this answer."""
        return Response(status_code=CLIENT_CLOSED_REQUEST)

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> ProblemResponse:
        log.error("request %s failed", request.scope.get("request_id"), exc_info=error)
        return problem(InternalError("the request failed inside the service; its log has the reason"), request)
