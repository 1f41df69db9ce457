"""Errors of invalid requests: HTTP 400, 405, 413, 415 and 422."""

from service.errors.base import RegistryError


class InvalidRequest(RegistryError):
    code, title, status = "invalid_request", "The request is invalid", 422


class MalformedBody(InvalidRequest):
    code, title, status = "malformed_body", "The request body cannot be parsed", 400


class UnsupportedMediaType(InvalidRequest):
    code, title, status = "unsupported_media_type", "The media type of the body is not supported", 415


class BodyTooLarge(InvalidRequest):
    code, title, status = "body_too_large", "The request body exceeds the size limit", 413


class ResponseTooLarge(InvalidRequest):
    code, title, status = "response_too_large", "The response would exceed the size limit", 422


class RequestTimeout(InvalidRequest):
    code, title, status = "request_timeout", "The request body arrived too slowly", 408


class InvalidBase64(InvalidRequest):
    code, title, status = "invalid_base64", "An image is not valid Base64", 422


class InvalidFilter(InvalidRequest):
    code, title, status = "invalid_filter", "The metadata filter is invalid", 422


class IdempotencyKeyReused(InvalidRequest):
    code, title, status = "idempotency_key_reused", "The Idempotency-Key belongs to a different request", 422


class RateNotCalibrated(InvalidRequest):
    code, title, status = "rate_not_calibrated", "The model is not calibrated for this error rate", 422


class InvalidEmbedding(InvalidRequest):
    code, title, status = "invalid_embedding", "The embedding is invalid for this model", 422


class ArchiveUnreadable(InvalidRequest):
    code, title, status = "archive_unreadable", "The archive or folder cannot be read", 422


class UrlUnreachable(InvalidRequest):
    code, title, status = "url_unreachable", "The URL does not return a picture", 422


class MethodNotAllowed(RegistryError):
    code, title, status = "method_not_allowed", "The URL does not support this HTTP method", 405
