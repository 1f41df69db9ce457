"""Records of an enrolment: the data to store, and the result."""

import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import RegistryError
from service.gallery.access.audit_entries import Actor
from service.gallery.people.collections import Collection
from service.gallery.people.identities import Identity
from service.gallery.search.results import Candidate
from service.gallery.search.search import GallerySize

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class NewTemplate:
    """One face sample under one model.

    Attributes:
        source_sha256: SHA-256 of the picture and of the face's position in it, which identifies the face.
        embedding: L2-normalised, (dim,) float32.
        box: x_min, y_min, x_max, y_max in pixels of the upright picture.
        manual: the caller has drawn the box of a face that the detector had not found.
    """

    model_id: str
    source_sha256: bytes
    embedding: Floats
    box: tuple[float, float, float, float]
    detection_score: float
    quality: float | None
    manual: bool = False


@dataclass(frozen=True, slots=True)
class AddedTemplate:
    """The result for one `NewTemplate`.

    Attributes:
        id: None if the same face is already stored under this model.
        similarity: cosine to the nearest other template of the identity, stored or of the request; None: no other.
        template_count: templates of the identity under this model afterwards.
        rejection: why the template was not stored, or not kept.
    """

    id: uuid.UUID | None
    similarity: float | None
    template_count: int
    rejection: RegistryError | None = None


@dataclass(frozen=True, slots=True)
class DuplicateCheck:
    """Searches for other identities that look like the new one.

    Attributes:
        probes: embeddings of the active model to search with.
        decide: returns, for the size of the gallery, the predicate by which a candidate is a duplicate.
        refuse: returns the error to raise for duplicates; None: the identity is enrolled and the result lists them.
    """

    probes: Sequence[Floats]
    decide: Callable[[GallerySize], Callable[[Candidate], bool]]
    refuse: Callable[[Sequence[Candidate]], Exception] | None


@dataclass(frozen=True, slots=True)
class NewEnrolment:
    """An enrolment, ready to be stored. None leaves an existing identity's value unchanged.

    Attributes:
        collection: as it was read before the pictures were observed; its models must not have changed.
        templates: of every accepted picture, under the active model first, then under the secondary model.
        encrypted_crops: by `source_sha256`.
        actor: who enrols, for the audit trail.
        may_change: the caller may change an existing identity's label, metadata and retention time.
        accepts: returns True if a face may be added to an existing identity, by the highest cosine to its templates and
            their number; None: every face may.
        named: False: the identity is that of an unknown person.
        forced: the request overrides the quality limits (`force`).
        rejected: the number of pictures that were not accepted.
        response: returns the response to store under `idempotency_key`.
        record: writes additional rows in the same transaction.
    """

    collection: Collection
    external_id: str
    label: str | None
    metadata: dict[str, Any] | None
    retain_until: datetime | None
    templates: Sequence[NewTemplate]
    encrypted_crops: dict[bytes, bytes]
    duplicate_check: DuplicateCheck | None
    actor: Actor
    may_change: bool = True
    accepts: Callable[[float, int], bool] | None = None
    named: bool = True
    forced: bool = False
    rejected: int = 0
    idempotency_key: str | None = None
    request_sha256: bytes = b""
    response: Callable[["EnrolmentResult"], dict[str, Any]] | None = None
    record: Callable[[AsyncConnection, "EnrolmentResult"], Awaitable[None]] | None = None

    @property
    def changes(self) -> list[str]:
        """The names of the values that the enrolment sets."""
        return [name for name in ("label", "metadata", "retain_until") if getattr(self, name) is not None]


@dataclass(frozen=True, slots=True)
class EnrolmentResult:
    """`templates`: in the order of `NewEnrolment.templates`. `duplicates`: other identities, best match first."""

    identity: Identity
    created: bool
    templates: list[AddedTemplate]
    duplicates: list[Candidate]
