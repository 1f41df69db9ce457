"""Every error that a caller can cause or must know of, each with its own code.

RegistryError                 answered over HTTP as application/problem+json (RFC 9457)
├── InvalidRequest            400 / 413 / 415 / 422: what to change is in the words
├── Unauthorized              401
├── ForeignOrigin, NotAllowed 403
├── NotFound                  404
├── Conflict                  409
├── TooManyRequests           429 with Retry-After
├── Unavailable               503 with Retry-After
└── StorageFull               507
StartupError                  the process can't start; the words say what to do

`docs/problems.md` has a paragraph on every code, and a test keeps it so.
"""

from collections.abc import Iterator
from typing import Any, ClassVar


class StartupError(Exception):
    """The service can't start as it is configured; shown to the operator without a traceback."""


class RegistryError(Exception):
    """An answer other than success.

    Args:
        detail: what happened and what to change, for the person who reads it.
        pointer: JSON pointer to the part of the request that is meant.
        extensions: further members of the problem document.
    """

    code: ClassVar[str]
    title: ClassVar[str]
    status: ClassVar[int]

    def __init__(self, detail: str, *, pointer: str | None = None, **extensions: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.pointer = pointer
        self.extensions = extensions

    def at(self, pointer: str) -> "RegistryError":
        """The same error, told to be about one part of the request."""
        self.pointer = self.pointer or pointer
        return self


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


class ImageUnreadable(InvalidRequest):
    code, title, status = "image_unreadable", "The file is not an image that can be decoded", 422


class ImageTruncated(InvalidRequest):
    code, title, status = "image_truncated", "The image ends before its last pixel", 422


class ImageTooLarge(InvalidRequest):
    code, title, status = "image_too_large", "The image has more pixels or bytes than allowed", 413


class ImageTooSmall(InvalidRequest):
    code, title, status = "image_too_small", "The image is too small to hold a face", 422


class NoFace(InvalidRequest):
    code, title, status = "no_face", "No face was found", 422


class SeveralFaces(InvalidRequest):
    code, title, status = "several_faces", "The picture shows more than one face", 422


class UrlUnreachable(InvalidRequest):
    code, title, status = "url_unreachable", "The picture's address gives no picture", 422


class FaceRejected(InvalidRequest):
    code, title, status = "face_rejected", "The face is not good enough to be enrolled", 422


class NoImageAccepted(InvalidRequest):
    code, title, status = "no_image_accepted", "None of the images could be enrolled", 422


class FmrNotCalibrated(InvalidRequest):
    code, title, status = "fmr_not_calibrated", "The model has no threshold for this false match rate", 422


class InvalidFilter(InvalidRequest):
    code, title, status = "invalid_filter", "The filter is not understood", 422


class IdempotencyKeyReused(InvalidRequest):
    code, title, status = "idempotency_key_reused", "The key was used for another request", 422


class EmbeddingRefused(InvalidRequest):
    code, title, status = "embedding_refused", "The embedding can't be compared with ours", 422


class ArchiveUnreadable(InvalidRequest):
    code, title, status = "archive_unreadable", "The archive or folder can't be worked on", 422


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


class NotFound(RegistryError):
    code, title, status = "not_found", "There is nothing at this address", 404


class NoClassifier(NotFound):
    code, title, status = "no_classifier", "No classifier is configured", 404


class CollectionNotFound(NotFound):
    code, title, status = "collection_not_found", "There is no collection of this name", 404


class ModelNotFound(NotFound):
    code, title, status = "model_not_found", "There is no model of this id", 404


class CalibrationNotFound(NotFound):
    code, title, status = "calibration_not_found", "The model's bundle has no calibration", 404


class IdentityNotFound(NotFound):
    code, title, status = "identity_not_found", "There is no such identity in the collection", 404


class TemplateNotFound(NotFound):
    code, title, status = "template_not_found", "The identity has no such template", 404


class CorrectionNotFound(NotFound):
    code, title, status = "correction_not_found", "The identity has no such correction", 404


class JobNotFound(NotFound):
    code, title, status = "job_not_found", "There is no such job in the collection", 404


class MethodNotAllowed(RegistryError):
    code, title, status = "method_not_allowed", "The address does not answer to this method", 405


class Conflict(RegistryError):
    code, title, status = "conflict", "The request does not fit the present state", 409


class CollectionExists(Conflict):
    code, title, status = "collection_exists", "A collection of this name exists already", 409


class IdentityExists(Conflict):
    code, title, status = "identity_exists", "Somebody is enrolled under this id already", 409


class OtherModel(Conflict):
    code, title, status = "other_model", "The collections belong to different models", 409


class NothingLeft(Conflict):
    code, title, status = "nothing_left", "The identity would have no template any more", 409


class DuplicatePerson(Conflict):
    code, title, status = "duplicate_person", "The person seems to be enrolled already", 409


class ModelIncomplete(Conflict):
    code, title, status = "model_incomplete", "The other model does not know everybody yet", 409


class CropsUnavailable(Conflict):
    code, title, status = "crops_unavailable", "The service has no key to keep crops under", 409


class NewPhotosNeeded(Conflict):
    code, title, status = "new_photos_needed", "There is nothing that another model could embed", 409


class CropUnreadable(Conflict):
    code, title, status = "crop_unreadable", "A stored crop can't be decrypted", 409


class ModelNotLoaded(Conflict):
    code, title, status = "model_not_loaded", "The collection belongs to a model that is not loaded", 409


class WrongWorker(Conflict):
    code, title, status = "wrong_worker", "The worker runs another model", 409


class Unavailable(RegistryError):
    code, title, status = "unavailable", "The service can't answer just now", 503
    retry_after_s: ClassVar[int] = 1


class EngineBusy(Unavailable):
    code, title, status = "engine_busy", "Too many pictures are waiting already", 503


class EngineUnavailable(Unavailable):
    code, title, status = "engine_unavailable", "No worker can look at pictures just now", 503
    retry_after_s = 2


class DatabaseUnavailable(Unavailable):
    code, title, status = "database_unavailable", "The database can't be reached", 503
    retry_after_s = 2


class StorageFull(RegistryError):
    code, title, status = "storage_full", "The service has no room for this", 507


class InternalError(RegistryError):
    code, title, status = "internal_error", "Something went wrong inside the service", 500


def all_errors(kind: type[RegistryError] = RegistryError) -> Iterator[type[RegistryError]]:
    """Every kind of error that can be answered."""
    for child in kind.__subclasses__():
        yield child
        yield from all_errors(child)


def error_class(code: str) -> type[RegistryError]:
    """The class with this code; one that this release doesn't know is an InternalError."""
    return next((kind for kind in all_errors() if kind.code == code), InternalError)
