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

from service.errors.access import ForeignOrigin, NotAllowed, TooManyRequests, Unauthorized, UrlNotAllowed
from service.errors.availability import (
    DatabaseUnavailable,
    EngineBusy,
    EngineUnavailable,
    InternalError,
    StorageFull,
    Unavailable,
)
from service.errors.base import RegistryError, StartupError
from service.errors.conflicts import (
    CollectionExists,
    Conflict,
    CropsUnavailable,
    CropUnreadable,
    DuplicatePerson,
    IdentityExists,
    ModelIncomplete,
    ModelNotLoaded,
    NewPhotosNeeded,
    NothingLeft,
    OtherModel,
    WrongWorker,
)
from service.errors.missing import (
    CalibrationNotFound,
    CollectionNotFound,
    CorrectionNotFound,
    IdentityNotFound,
    JobNotFound,
    ModelNotFound,
    NoClassifier,
    NotFound,
    TemplateNotFound,
)
from service.errors.pictures import (
    FaceRejected,
    ImageTooLarge,
    ImageTooSmall,
    ImageTruncated,
    ImageUnreadable,
    NoFace,
    NoImageAccepted,
    SeveralFaces,
)
from service.errors.requests import (
    ArchiveUnreadable,
    BodyTooLarge,
    EmbeddingRefused,
    FmrNotCalibrated,
    IdempotencyKeyReused,
    InvalidBase64,
    InvalidFilter,
    InvalidRequest,
    MalformedBody,
    MethodNotAllowed,
    UnsupportedMediaType,
    UrlUnreachable,
)

__all__ = [
    "ArchiveUnreadable",
    "BodyTooLarge",
    "CalibrationNotFound",
    "CollectionExists",
    "CollectionNotFound",
    "Conflict",
    "CorrectionNotFound",
    "CropUnreadable",
    "CropsUnavailable",
    "DatabaseUnavailable",
    "DuplicatePerson",
    "EmbeddingRefused",
    "EngineBusy",
    "EngineUnavailable",
    "FaceRejected",
    "FmrNotCalibrated",
    "ForeignOrigin",
    "IdempotencyKeyReused",
    "IdentityExists",
    "IdentityNotFound",
    "ImageTooLarge",
    "ImageTooSmall",
    "ImageTruncated",
    "ImageUnreadable",
    "InternalError",
    "InvalidBase64",
    "InvalidFilter",
    "InvalidRequest",
    "JobNotFound",
    "MalformedBody",
    "MethodNotAllowed",
    "ModelIncomplete",
    "ModelNotFound",
    "ModelNotLoaded",
    "NewPhotosNeeded",
    "NoClassifier",
    "NoFace",
    "NoImageAccepted",
    "NotAllowed",
    "NotFound",
    "NothingLeft",
    "OtherModel",
    "RegistryError",
    "SeveralFaces",
    "StartupError",
    "StorageFull",
    "TemplateNotFound",
    "TooManyRequests",
    "Unauthorized",
    "Unavailable",
    "UnsupportedMediaType",
    "UrlNotAllowed",
    "UrlUnreachable",
    "WrongWorker",
    "all_errors",
    "error_class",
]


def all_errors(kind: type[RegistryError] = RegistryError) -> Iterator[type[RegistryError]]:
    """Every kind of error that can be answered."""
    for child in kind.__subclasses__():
        yield child
        yield from all_errors(child)


def error_class(code: str) -> type[RegistryError]:
    """The class with this code; one that this release doesn't know is an InternalError."""
    return next((kind for kind in all_errors() if kind.code == code), InternalError)
