"""The problem document and the error classes of the HTTP statuses."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Problem:
    """A problem document (RFC 9457).

    Attributes:
        code: stable name of the error, for programs.
        status: HTTP status; None if no response arrived.
        detail: what is wrong in this request and what to change.
        pointer: JSON pointer (RFC 6901) to the part of the request that causes the error.
        request_id: identifier of the request in the log of the service.
        retry_after_s: seconds after which the service expects the next attempt.
        extensions: further members, such as `images` with one entry for each rejected picture.
    """

    code: str
    status: int | None
    title: str
    detail: str
    pointer: str | None = None
    request_id: str | None = None
    retry_after_s: float | None = None
    extensions: Mapping[str, Any] = field(default_factory=dict, repr=False)


class RegistryError(Exception):
    """An operation failed. The attributes are those of the problem document."""

    code: str = "registry_error"

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.code = problem.code
        self.status = problem.status
        self.title = problem.title
        self.detail = problem.detail
        self.pointer = problem.pointer
        self.request_id = problem.request_id
        self.retry_after_s = problem.retry_after_s
        self.extensions = problem.extensions

    def __str__(self) -> str:
        head = " ".join(str(part) for part in (self.status, self.code) if part is not None)
        parts = [f"pointer {self.pointer}"] if self.pointer else []
        parts += [f"request {self.request_id}"] if self.request_id else []
        return f"{head}: {self.detail}" + (f" ({', '.join(parts)})" if parts else "")


class InvalidRequest(RegistryError):
    code = "invalid_request"


class Unauthorized(RegistryError):
    code = "unauthorized"


class NotAllowed(RegistryError):
    code = "not_allowed"


class NotFound(RegistryError):
    code = "not_found"


class Conflict(RegistryError):
    code = "conflict"


class TooManyRequests(RegistryError):
    code = "too_many_requests"


class InternalError(RegistryError):
    code = "internal_error"


class Unavailable(RegistryError):
    code = "unavailable"


class StorageFull(RegistryError):
    code = "storage_full"


class UnexpectedResponse(RegistryError):
    code = "unexpected_response"


class Unreachable(Unavailable):
    """No response arrived.

    Attributes:
        sent: the service may have received the request.
    """

    code = "unreachable"

    def __init__(self, problem: Problem, sent: bool = True) -> None:
        super().__init__(problem)
        self.sent = sent
