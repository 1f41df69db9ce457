"""Errors of access control: HTTP 401, 403 and 429."""

from service.errors.base import RegistryError


class ForeignOrigin(RegistryError):
    code, title, status = "foreign_origin", "The Host or Origin header belongs to another site", 403


class Unauthorized(RegistryError):
    code, title, status = "unauthorized", "The request has no valid API key", 401


class TooManyRequests(RegistryError):
    code, title, status = "too_many_requests", "The API key has exceeded its request rate", 429

    def __init__(self, detail: str, *, wait_s: int) -> None:
        super().__init__(detail)
        self.retry_after_s = wait_s


class NotAllowed(RegistryError):
    code, title, status = "not_allowed", "The API key does not permit this operation", 403


class UrlNotAllowed(RegistryError):
    code, title, status = "url_not_allowed", "The service does not contact this host", 403
