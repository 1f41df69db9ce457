"""Errors as RFC 9457 problem documents, in one place for the whole API."""

import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from service.errors import (
    InternalError,
    InvalidBase64,
    InvalidRequest,
    MalformedBody,
    MethodNotAllowed,
    NotFound,
    RegistryError,
    Unavailable,
)

MEDIA_TYPE = "application/problem+json"
log = logging.getLogger(__name__)


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
    headers = {"Retry-After": str(error.retry_after_s)} if isinstance(error, Unavailable) else None
    return ProblemResponse(document | error.extensions, status_code=error.status, headers=headers)


def from_validation(error: ValidationError | RequestValidationError) -> RegistryError:
    """What is wrong with a body, each fault with its JSON pointer. No value is repeated: it may be a picture."""
    found = error.errors()
    faults = [{"pointer": "/" + "/".join(str(part) for part in item["loc"]), "detail": item["msg"]} for item in found]
    kinds = {item["type"] for item in found}
    if kinds == {"json_invalid"}:
        return MalformedBody(f"the body is not JSON: {faults[0]['detail']}")
    kind = InvalidBase64 if kinds == {InvalidBase64.code} else InvalidRequest
    detail = "; ".join(f"{fault['pointer']}: {fault['detail']}" for fault in faults)
    return kind(detail, pointer=faults[0]["pointer"], errors=faults)


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
        kinds: dict[int, type[RegistryError]] = {404: NotFound, 405: MethodNotAllowed, 400: MalformedBody}
        kind = kinds.get(error.status_code, InternalError)
        words = {
            404: f"{request.url.path} is no address of this service; /docs lists them",
            405: f"{request.url.path} does not answer to {request.method}",
        }
        return problem(kind(words.get(error.status_code, HTTPStatus(error.status_code).phrase)), request)

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> ProblemResponse:
        log.error("request %s failed", request.scope.get("request_id"), exc_info=error)
        return problem(InternalError("the request failed inside the service; its log has the reason"), request)
