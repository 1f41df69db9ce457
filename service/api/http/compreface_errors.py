"""Errors in the form of CompreFace: a message and a numeric code."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import ValidationError

from service.api.http.problems import from_validation
from service.errors import RegistryError

CODES = {
    "no_face": 28,
    "several_faces": 31,
    "identity_not_found": 42,
    "identity_exists": 43,
    "template_not_found": 44,
    "image_unreadable": 21,
    "invalid_request": 26,
}
"""CompreFace's codes of errors; all others are 0 (CommonExceptionCode)."""
BAD_REQUEST = 400


class CompreFaceRoute(APIRoute):
    """Answers errors as CompreFace does: a message and a numeric code."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handler(request)
            except RegistryError as error:
                return _error(error)
            except (RequestValidationError, ValidationError) as error:
                return _error(from_validation(error))

        return answer


def _error(error: RegistryError) -> JSONResponse:
    # CompreFace knows no 409 and 422.
    status = BAD_REQUEST if error.status in (409, 422) else error.status
    return JSONResponse({"message": error.detail, "code": CODES.get(error.code, 0)}, status)
