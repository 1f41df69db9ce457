"""Documents of identities and their templates."""

import uuid
from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from service.api.schemas.fields import Body, CollectionName, RetainUntil
from service.errors import InvalidRequest
from service.gallery.people.erasure import Receipt
from service.gallery.people.identities import Identity
from service.gallery.people.templates import StoredTemplate
from service.recognition.person_fields import Metadata, Name

MAX_MERGED = 100
MAX_SPLIT = 1000


class IdentityView(BaseModel):
    id: uuid.UUID
    external_id: str
    label: str
    named: bool = Field(description="false: the service has created the identity for a face of an unknown person")
    metadata: dict[str, Any] | None = Field(description="null: `fields` omits it")
    template_count: int
    created_at: datetime
    updated_at: datetime
    retain_until: datetime | None = Field(None, description="the service erases the identity after this time")


class IdentitiesResponse(BaseModel):
    identities: list[IdentityView]
    next_cursor: str | None = Field(description="cursor of the next page; null: this is the last page")


class IdentityUpdateRequest(Body):
    """Changes an identity. An absent field keeps its value; `retain_until: null` removes the time."""

    external_id: Name | None = Field(None, description="of an identity without a name, which gets this one")
    label: Name | None = None
    metadata: Metadata | None = None
    retain_until: RetainUntil | None = None

    @property
    def changes(self) -> dict[str, Any]:
        """The columns to set."""
        chosen = {"external_id": self.external_id, "label": self.label, "metadata": self.metadata}
        changes: dict[str, Any] = {name: value for name, value in chosen.items() if value is not None}
        if "retain_until" in self.model_fields_set:
            changes["retain_until"] = self.retain_until
        return changes


class MergeRequest(Body):
    """The identities that are merged into the identity of the path and then deleted."""

    identities: list[uuid.UUID] = Field(min_length=1, max_length=MAX_MERGED)

    def require_others(self, identity_id: uuid.UUID) -> None:
        """Raises InvalidRequest if the list contains the target or an identity twice."""
        if identity_id in self.identities or len(set(self.identities)) < len(self.identities):
            raise InvalidRequest(
                "`identities` must name identities other than that of the path, each once", pointer="/identities"
            )


class MergeResponse(IdentityView):
    templates_moved: int


class SplitRequest(Body):
    """The templates that become a new identity."""

    template_ids: list[uuid.UUID] = Field(min_length=1, max_length=MAX_SPLIT)
    external_id: Name
    label: Name | None = None
    metadata: Metadata | None = None


class MoveRequest(Body):
    """The collection to which the identity is moved."""

    to: CollectionName


class TemplateView(BaseModel):
    id: uuid.UUID
    model_id: str
    box: list[float] = Field(description="x_min, y_min, x_max, y_max in pixels of the upright picture")
    detection_score: float
    quality: float | None = Field(
        description="0 to 1: share of the model's reference faces that are harder to recognise"
    )
    manual: bool = Field(description="the client sent the box of this face, which the detector had not found")
    created_at: datetime


class TemplatesResponse(BaseModel):
    templates: list[TemplateView]
    next_cursor: str | None


class TemplateDeletionResponse(BaseModel):
    template_id: uuid.UUID
    templates_left: int


class ReceiptView(BaseModel):
    """The audit entry of an erasure. A copy outside the service proves later that the audit trail was not replaced."""

    number: int
    at: datetime
    mac: str = Field(description="HMAC-SHA256 over the entry and the MAC of the entry before it, hexadecimal")


class ErasureResponse(BaseModel):
    identity_id: uuid.UUID
    templates_deleted: int
    deleted: dict[str, int] = Field(description="number of deleted rows by kind")
    receipt: ReceiptView | None = Field(description="null: the service keeps no audit trail")


def identity_view(identity: Identity, with_metadata: bool = True) -> IdentityView:
    view = IdentityView.model_validate(identity, from_attributes=True)
    return view if with_metadata else view.model_copy(update={"metadata": None})


def template_view(template: StoredTemplate) -> TemplateView:
    return TemplateView.model_validate(template, from_attributes=True)


def erasure_response(receipt: Receipt) -> ErasureResponse:
    entry = receipt.entry
    view = None if entry is None else ReceiptView(number=entry.number, at=entry.at, mac=entry.mac.hex())
    return ErasureResponse(
        identity_id=receipt.identity_id,
        templates_deleted=receipt.deleted["templates"],
        deleted=receipt.deleted,
        receipt=view,
    )
