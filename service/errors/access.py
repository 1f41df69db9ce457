"""The caller may not do this: HTTP 401, 403 and 429."""

from service.errors.base import RegistryError


class ForeignOrigin(RegistryError):
    code, title, status = "foreign_origin", "The request comes from a web page of another site", 403


class Unauthorized(RegistryError):
    code, title, status = "unauthorized", "The request has no valid key", 401


class TooManyRequests(RegistryError):
    code, title, status = "too_many_requests", "The key has used up its rate", 429

    def __init__(self, detail: str, *, wait_s: int) -> None:
        super().__init__(detail)
        self.retry_after_s = wait_s


class NotAllowed(RegistryError):
    code, title, status = "not_allowed", "The key does not allow this", 403


class UrlNotAllowed(RegistryError):
    code, title, status = "url_not_allowed", "Pictures are not taken from this address", 403
