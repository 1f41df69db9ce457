"""Responses about enrolled identities."""

import uuid
from datetime import datetime
from typing import Annotated, Any

from pydantic import Field

from identity_registry.responses.audit import AuditEntry
from identity_registry.responses.base import Base64Text, Document, floats


class Identity(Document):
    """An enrolled person.

    Attributes:
        external_id: the caller's own key of the person.
        named: False: the service has created the identity for a face of an unknown person.
        retain_until: time after which the service erases the identity.
    """

    id: uuid.UUID
    external_id: str
    label: str
    named: bool = True
    metadata: dict[str, Any] | None = None
    template_count: int
    created_at: datetime
    updated_at: datetime
    retain_until: datetime | None = None


class MergedIdentity(Identity):
    """The identity that received the templates of others."""

    templates_moved: int


class Receipt(Document):
    """The entry of the audit trail that records an erasure.

    Attributes:
        mac: HMAC-SHA256 over the entry and all entries before it, hexadecimal. Store it outside the service to prove
            later that the audit trail is unchanged.
    """

    number: int
    at: datetime
    mac: str


class ErasureResponse(Document):
    """Number of deleted rows by kind. `receipt` is None if the service keeps no audit trail."""

    identity_id: uuid.UUID
    templates_deleted: int
    deleted: dict[str, int]
    receipt: Receipt | None = None


class Template(Document):
    """A stored face without its embedding. `box`, `quality` and `manual` as in `Face`."""

    id: uuid.UUID
    model_id: str
    box: list[float]
    detection_score: float
    quality: float | None = None
    manual: bool = False
    created_at: datetime


class TemplateDeletion(Document):
    """Result of the deletion of one template."""

    template_id: uuid.UUID
    templates_left: int


class Correction(Document):
    """A face that is recorded as another person's than the identity's."""

    id: uuid.UUID
    model_id: str
    created_at: datetime


class StoredEmbedding(Document):
    """A template or a centroid with its embedding: little-endian float32, as Base64.

    Attributes:
        id: of the template; None for a centroid.
        source_sha256: SHA-256 of the picture and the position of the face in it, hexadecimal.
    """

    id: uuid.UUID | None = None
    model_id: str
    embedding: Base64Text
    box: list[float] | None = None
    detection_score: float | None = None
    quality: float | None = None
    source_sha256: str | None = None
    created_at: datetime | None = None

    @property
    def vector(self) -> tuple[float, ...]:
        """The numbers of the embedding."""
        return floats(self.embedding)


class StoredCrop(Document):
    """An aligned picture of a face, 112 by 112 pixels.

    Attributes:
        image: PNG as Base64; None if the service has no key that decrypts it.
    """

    source_sha256: str
    image: Annotated[str | None, Field(repr=False)] = None
    created_at: datetime


class SubjectData(Document):
    """Everything that the registry stores about an identity. It contains biometric data."""

    identity: Identity
    templates: list[StoredEmbedding]
    centroids: list[StoredEmbedding]
    corrections: list[Correction]
    crops: list[StoredCrop]
    stored_responses: list[dict[str, Any]]
    job_rows: list[dict[str, Any]]
    group_memberships: list[dict[str, Any]] = Field(default_factory=list)
    audit: list[AuditEntry]
