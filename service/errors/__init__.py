"""The errors that callers and operators see. Each error class has its own code.

RegistryError                 returned over HTTP as application/problem+json (RFC 9457)
├── InvalidRequest            400 / 408 / 413 / 415 / 422: the detail says what to change
├── Unauthorized              401
├── ForeignOrigin, NotAllowed 403
├── NotFound                  404
├── Conflict                  409
├── TooManyRequests           429 with Retry-After
├── Unavailable               503 with Retry-After
└── StorageFull               507
StartupError                  the process cannot start; the message says what to change

`docs/reference/problems.md` has a section for every code. `tests/unit/test_problems_page.py` checks that.
"""

from collections.abc import Iterator

from service.errors.access import ForeignOrigin, NotAllowed, TooManyRequests, Unauthorized, UrlNotAllowed
from service.errors.availability import (
    DatabaseUnavailable,
    EngineBusy,
    EngineUnavailable,
    InternalError,
    ServerBusy,
    StorageFull,
    Unavailable,
)
from service.errors.base import RegistryError, StartupError
from service.errors.conflicts import (
    CollectionExists,
    Conflict,
    CropsMissing,
    CropsUnavailable,
    CropUnreadable,
    DuplicatePerson,
    IdentityExists,
    ModelIncomplete,
    ModelNotLoaded,
    NoTemplateLeft,
    OtherModel,
    WorkerModelMismatch,
)
from service.errors.missing import (
    CalibrationNotFound,
    CollectionNotFound,
    CorrectionNotFound,
    GroupNotFound,
    IdentityNotFound,
    JobNotFound,
    ModelNotFound,
    NoClassifier,
    NotFound,
    TemplateNotFound,
    WebhookNotFound,
)
from service.errors.pictures import (
    AdditionRejected,
    FaceRejected,
    ImageTooCostly,
    ImageTooLarge,
    ImageTooSmall,
    ImageTruncated,
    ImageUnreadable,
    NoFace,
    NoImageAccepted,
    SeveralFaces,
    TemplateNotKept,
    TooManyFaces,
)
from service.errors.requests import (
    ArchiveUnreadable,
    BodyTooLarge,
    IdempotencyKeyReused,
    InvalidBase64,
    InvalidEmbedding,
    InvalidFilter,
    InvalidRequest,
    MalformedBody,
    MethodNotAllowed,
    RateNotCalibrated,
    RequestTimeout,
    ResponseTooLarge,
    UnsupportedMediaType,
    UrlUnreachable,
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
    "RateNotCalibrated",
    "RegistryError",
    "RequestTimeout",
    "ResponseTooLarge",
    "ServerBusy",
    "SeveralFaces",
    "StartupError",
    "StorageFull",
    "TemplateNotFound",
    "TemplateNotKept",
    "TooManyFaces",
    "TooManyRequests",
    "Unauthorized",
    "Unavailable",
    "UnsupportedMediaType",
    "UrlNotAllowed",
    "UrlUnreachable",
    "WebhookNotFound",
    "WorkerModelMismatch",
    "all_errors",
    "error_class",
]


def all_errors(kind: type[RegistryError] = RegistryError) -> Iterator[type[RegistryError]]:
    """Yields every subclass of `kind`, at any depth."""
    for child in kind.__subclasses__():
        yield child
        yield from all_errors(child)


def error_class(code: str) -> type[RegistryError]:
    """Returns the class with this code, or InternalError for a code that this release does not define."""
    return next((kind for kind in all_errors() if kind.code == code), InternalError)
