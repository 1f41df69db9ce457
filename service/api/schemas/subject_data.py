"""The export of everything that is stored about an identity."""

import base64
import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from service.api.schemas.audit import EntryView, entry_view
from service.api.schemas.corrections import CorrectionView
from service.api.schemas.faces import embedding_text
from service.api.schemas.identities import IdentityView, identity_view
from service.gallery.people.subject_data import SubjectData


class StoredEmbedding(BaseModel):
    """A template or a centroid."""

    id: uuid.UUID | None = Field(description="id of the template; null: a centroid")
    model_id: str
    embedding: str = Field(description="little-endian float32 as Base64")
    box: list[float] | None
    detection_score: float | None
    quality: float | None
    source_sha256: str | None = Field(
        description="SHA-256 of the picture and of the face's position in it, hexadecimal"
    )
    created_at: datetime | None


class StoredCrop(BaseModel):
    """A picture of the face, aligned to 112 x 112 pixels."""

    source_sha256: str = Field(description="that of the templates of the same face, hexadecimal")
    image: str | None = Field(description="PNG as Base64; null: the service does not have the key")
    created_at: datetime


class SubjectDataResponse(BaseModel):
    """Everything that the registry stores about an identity. It is biometric data."""

    identity: IdentityView
    templates: list[StoredEmbedding]
    centroids: list[StoredEmbedding]
    corrections: list[CorrectionView] = Field(description="without embeddings, because the faces show other people")
    crops: list[StoredCrop]
    stored_responses: list[dict[str, Any]] = Field(description="responses stored under Idempotency-Keys")
    job_rows: list[dict[str, Any]] = Field(description="results of bulk enrolments")
    group_memberships: list[dict[str, Any]] = Field(description="groups of faces that contain the identity")
    audit: list[EntryView] = Field(description="up to 10,000 entries, for keys with the scope `audit`")


def subject_data_response(data: SubjectData, with_audit: bool) -> SubjectDataResponse:
    """Returns the export.

    Args:
        with_audit: include the entries of the audit trail.
    """
    return SubjectDataResponse(
        identity=identity_view(data.identity),
        templates=[_stored(row) for row in data.templates],
        centroids=[_stored(row) for row in data.centroids],
        corrections=[CorrectionView.model_validate(row) for row in data.corrections],
        crops=[_crop(row) for row in data.crops],
        stored_responses=[
            {"key": row["key"], "response": row["response"], "at": row["created_at"]} for row in data.stored_responses
        ],
        job_rows=[_without_collection(row) for row in data.job_rows],
        group_memberships=[_without_collection(row) for row in data.group_memberships],
        audit=[entry_view(entry) for entry in data.audit] if with_audit else [],
    )


def _without_collection(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "collection_id"}


def _crop(row: Mapping[str, Any]) -> StoredCrop:
    image = None if row["file"] is None else base64.b64encode(row["file"]).decode()
    return StoredCrop(source_sha256=row["source_sha256"].hex(), image=image, created_at=row["created_at"])


def _stored(row: Mapping[str, Any]) -> StoredEmbedding:
    digest = row.get("source_sha256")
    return StoredEmbedding(
        id=row.get("id"),
        model_id=row["model_id"],
        embedding=embedding_text(row["embedding"]),
        box=row.get("box"),
        detection_score=row.get("detection_score"),
        quality=row.get("quality"),
        source_sha256=None if digest is None else digest.hex(),
        created_at=row.get("created_at"),
    )
