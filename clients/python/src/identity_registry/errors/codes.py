"""One class for each error code that says more than the HTTP status."""

from identity_registry.errors.base import Conflict, InvalidRequest, NotAllowed, NotFound, Unavailable


class MalformedBody(InvalidRequest):
    code = "malformed_body"


class MethodNotAllowed(InvalidRequest):
    code = "method_not_allowed"


class UnsupportedMediaType(InvalidRequest):
    code = "unsupported_media_type"


class BodyTooLarge(InvalidRequest):
    code = "body_too_large"


class InvalidBase64(InvalidRequest):
    code = "invalid_base64"


class InvalidFilter(InvalidRequest):
    code = "invalid_filter"


class InvalidEmbedding(InvalidRequest):
    code = "invalid_embedding"


class IdempotencyKeyReused(InvalidRequest):
    code = "idempotency_key_reused"


class RateNotCalibrated(InvalidRequest):
    code = "rate_not_calibrated"


class ArchiveUnreadable(InvalidRequest):
    code = "archive_unreadable"


class UrlUnreachable(InvalidRequest):
    code = "url_unreachable"


class ImageUnreadable(InvalidRequest):
    code = "image_unreadable"


class ImageTruncated(InvalidRequest):
    code = "image_truncated"


class ImageTooLarge(InvalidRequest):
    code = "image_too_large"


class ImageTooCostly(InvalidRequest):
    code = "image_too_costly"


class TooManyFaces(InvalidRequest):
    code = "too_many_faces"


class AdditionRejected(InvalidRequest):
    code = "addition_rejected"


class TemplateNotKept(InvalidRequest):
    code = "template_not_kept"


class RequestTimeout(InvalidRequest):
    code = "request_timeout"


class ResponseTooLarge(InvalidRequest):
    code = "response_too_large"


class ImageTooSmall(InvalidRequest):
    code = "image_too_small"


class NoFace(InvalidRequest):
    code = "no_face"


class SeveralFaces(InvalidRequest):
    code = "several_faces"


class FaceRejected(InvalidRequest):
    code = "face_rejected"


class NoImageAccepted(InvalidRequest):
    code = "no_image_accepted"


class ForeignOrigin(NotAllowed):
    code = "foreign_origin"


class UrlNotAllowed(NotAllowed):
    code = "url_not_allowed"


class NoClassifier(NotFound):
    code = "no_classifier"


class CollectionNotFound(NotFound):
    code = "collection_not_found"


class ModelNotFound(NotFound):
    code = "model_not_found"


class CalibrationNotFound(NotFound):
    code = "calibration_not_found"


class IdentityNotFound(NotFound):
    code = "identity_not_found"


class TemplateNotFound(NotFound):
    code = "template_not_found"


class CorrectionNotFound(NotFound):
    code = "correction_not_found"


class GroupNotFound(NotFound):
    code = "group_not_found"


class JobNotFound(NotFound):
    code = "job_not_found"


class CollectionExists(Conflict):
    code = "collection_exists"


class IdentityExists(Conflict):
    code = "identity_exists"


class OtherModel(Conflict):
    code = "other_model"


class NoTemplateLeft(Conflict):
    code = "no_template_left"


class DuplicatePerson(Conflict):
    code = "duplicate_person"


class ModelIncomplete(Conflict):
    code = "model_incomplete"


class CropsUnavailable(Conflict):
    code = "crops_unavailable"


class CropsMissing(Conflict):
    code = "crops_missing"


class CropUnreadable(Conflict):
    code = "crop_unreadable"


class ModelNotLoaded(Conflict):
    code = "model_not_loaded"


class WebhookNotFound(NotFound):
    code = "webhook_not_found"


class WorkerModelMismatch(Conflict):
    code = "worker_model_mismatch"


class ServerBusy(Unavailable):
    code = "server_busy"


class EngineBusy(Unavailable):
    code = "engine_busy"


class EngineUnavailable(Unavailable):
    code = "engine_unavailable"


class DatabaseUnavailable(Unavailable):
    code = "database_unavailable"
