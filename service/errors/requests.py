"""The request is wrong: HTTP 400, 405, 413, 415 and 422."""

from service.errors.base import RegistryError


class InvalidRequest(RegistryError):
    code, title, status = "invalid_request", "The request does not have the expected form", 422


class MalformedBody(InvalidRequest):
    code, title, status = "malformed_body", "The body can't be read", 400


class UnsupportedMediaType(InvalidRequest):
    code, title, status = "unsupported_media_type", "The body is of a type that is not understood", 415


class BodyTooLarge(InvalidRequest):
    code, title, status = "body_too_large", "The body is larger than allowed", 413


class InvalidBase64(InvalidRequest):
    code, title, status = "invalid_base64", "An image is not valid Base64", 422


class InvalidFilter(InvalidRequest):
    code, title, status = "invalid_filter", "The filter is not understood", 422


class IdempotencyKeyReused(InvalidRequest):
    code, title, status = "idempotency_key_reused", "The key was used for another request", 422


class FmrNotCalibrated(InvalidRequest):
    code, title, status = "fmr_not_calibrated", "The model has no threshold for this false match rate", 422


class EmbeddingRefused(InvalidRequest):
    code, title, status = "embedding_refused", "The embedding can't be compared with ours", 422


class ArchiveUnreadable(InvalidRequest):
    code, title, status = "archive_unreadable", "The archive or folder can't be worked on", 422


class UrlUnreachable(InvalidRequest):
    code, title, status = "url_unreachable", "The picture's address gives no picture", 422


class MethodNotAllowed(RegistryError):
    code, title, status = "method_not_allowed", "The address does not answer to this method", 405
