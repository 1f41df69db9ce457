"""Errors of the client. Each error code of the API has an exception class; HTTP statuses group them.

RegistryError
├── InvalidRequest     400, 405, 413, 415, 422: the detail says what to change
├── Unauthorized       401
├── NotAllowed         403
├── NotFound           404
├── Conflict           409
├── TooManyRequests    429
├── InternalError      500
├── Unavailable        502, 503, 504; Unreachable: no response
├── StorageFull        507
└── UnexpectedResponse the response is not a document of this API
"""

from collections.abc import Iterator

from identity_registry.errors.base import (
    Conflict,
    InternalError,
    InvalidRequest,
    NotAllowed,
    NotFound,
    Problem,
    RegistryError,
    StorageFull,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    UnexpectedResponse,
    Unreachable,
)
from identity_registry.errors.codes import (
    AdditionRejected,
    ArchiveUnreadable,
    BodyTooLarge,
    CalibrationNotFound,
    CollectionExists,
    CollectionNotFound,
    CorrectionNotFound,
    CropsMissing,
    CropsUnavailable,
    CropUnreadable,
    DatabaseUnavailable,
    DuplicatePerson,
    EngineBusy,
    EngineUnavailable,
    FaceRejected,
    ForeignOrigin,
    GroupNotFound,
    IdempotencyKeyReused,
    IdentityExists,
    IdentityNotFound,
    ImageTooCostly,
    ImageTooLarge,
    ImageTooSmall,
    ImageTruncated,
    ImageUnreadable,
    InvalidBase64,
    InvalidEmbedding,
    InvalidFilter,
    JobNotFound,
    MalformedBody,
    MethodNotAllowed,
    ModelIncomplete,
    ModelNotFound,
    ModelNotLoaded,
    NoClassifier,
    NoFace,
    NoImageAccepted,
    NoTemplateLeft,
    OtherModel,
    RateNotCalibrated,
    RequestTimeout,
    ResponseTooLarge,
    ServerBusy,
    SeveralFaces,
    TemplateNotFound,
    TemplateNotKept,
    TooManyFaces,
    UnsupportedMediaType,
    UrlNotAllowed,
    UrlUnreachable,
    WebhookNotFound,
    WorkerModelMismatch,
)

__all__ = [
    "AdditionRejected",
    "ArchiveUnreadable",
    "BodyTooLarge",
    "CalibrationNotFound",
    "CollectionExists",
    "CollectionNotFound",
    "Conflict",
    "CorrectionNotFound",
    "CropUnreadable",
    "CropsMissing",
    "CropsUnavailable",
    "DatabaseUnavailable",
    "DuplicatePerson",
    "EngineBusy",
    "EngineUnavailable",
    "FaceRejected",
    "ForeignOrigin",
    "GroupNotFound",
    "IdempotencyKeyReused",
    "IdentityExists",
    "IdentityNotFound",
    "ImageTooCostly",
    "ImageTooLarge",
    "ImageTooSmall",
    "ImageTruncated",
    "ImageUnreadable",
    "InternalError",
    "InvalidBase64",
    "InvalidEmbedding",
    "InvalidFilter",
    "InvalidRequest",
    "JobNotFound",
    "MalformedBody",
    "MethodNotAllowed",
    "ModelIncomplete",
    "ModelNotFound",
    "ModelNotLoaded",
    "NoClassifier",
    "NoFace",
    "NoImageAccepted",
    "NoTemplateLeft",
    "NotAllowed",
    "NotFound",
    "OtherModel",
    "Problem",
    "RateNotCalibrated",
    "RegistryError",
    "RequestTimeout",
    "ResponseTooLarge",
    "ServerBusy",
    "SeveralFaces",
    "StorageFull",
    "TemplateNotFound",
    "TemplateNotKept",
    "TooManyFaces",
    "TooManyRequests",
    "Unauthorized",
    "Unavailable",
    "UnexpectedResponse",
    "Unreachable",
    "UnsupportedMediaType",
    "UrlNotAllowed",
    "UrlUnreachable",
    "WebhookNotFound",
    "WorkerModelMismatch",
    "all_errors",
    "error_of",
]


def all_errors(kind: type[RegistryError] = RegistryError) -> Iterator[type[RegistryError]]:
    """Yields every subclass of `kind`, at any depth."""
    for child in kind.__subclasses__():
        yield child
        yield from all_errors(child)


BY_CODE = {kind.code: kind for kind in all_errors()}
BY_STATUS: dict[int, type[RegistryError]] = {
    401: Unauthorized,
    403: NotAllowed,
    404: NotFound,
    409: Conflict,
    429: TooManyRequests,
    500: InternalError,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
    507: StorageFull,
}


def error_of(problem: Problem) -> RegistryError:
    """Returns the error of the problem's code. For an unknown code, the class is that of the HTTP status."""
    kind = BY_CODE.get(problem.code)
    if kind is None and problem.status is not None:
        kind = BY_STATUS.get(problem.status, InvalidRequest if 400 <= problem.status < 500 else UnexpectedResponse)
    return (kind or UnexpectedResponse)(problem)
