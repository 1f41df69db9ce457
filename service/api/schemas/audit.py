"""Documents of the audit trail."""

import uuid
from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from service.gallery.access.audit_entries import Entry, Head


class EntryView(BaseModel):
    number: int
    at: datetime
    action: str
    key_id: uuid.UUID | None = Field(
        description="API key of the caller; null: the service requires no key, or no request caused the event"
    )
    key_name: str | None
    request_id: str | None
    identity_id: uuid.UUID | None
    details: dict[str, Any] = Field(description="ids and counts; nothing that describes a face")
    mac: str = Field(description="HMAC-SHA256 over the entry and the MAC of the entry before it, hexadecimal")


class AuditResponse(BaseModel):
    entries: list[EntryView]
    next_cursor: str | None


class HeadView(BaseModel):
    """The end of a chain. A comparison with an earlier copy detects a chain that was cut off or replaced."""

    collection_id: uuid.UUID
    number: int
    mac: str


class HeadsResponse(BaseModel):
    heads: list[HeadView]


def entry_view(entry: Entry) -> EntryView:
    return EntryView(
        number=entry.number,
        at=entry.at,
        action=entry.action,
        key_id=entry.key_id,
        key_name=entry.key_name,
        request_id=entry.request_id,
        identity_id=entry.identity_id,
        details=entry.details,
        mac=entry.mac.hex(),
    )


def head_view(head: Head) -> HeadView:
    return HeadView(collection_id=head.collection_id, number=head.number, mac=head.mac.hex())
