"""The documents of the audit trail."""

import uuid
from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from service.gallery.access.audit import Entry, Head


class EntryView(BaseModel):
    number: int
    at: datetime
    action: str
    key_id: uuid.UUID | None = Field(description="the API key; null: the service asks for none, or did it by itself")
    key_name: str | None
    request_id: str | None
    identity_id: uuid.UUID | None
    details: dict[str, Any] = Field(description="numbers and ids; nothing of a face")
    code: str = Field(description="HMAC-SHA256 over the entry and all before it, hexadecimal")


class AuditResponse(BaseModel):
    entries: list[EntryView]
    next_cursor: str | None


class HeadView(BaseModel):
    """Where a chain ends. Kept elsewhere, it shows later whether the chain was cut off or exchanged."""

    collection_id: uuid.UUID
    number: int
    code: str


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
        code=entry.code.hex(),
    )


def head_view(head: Head) -> HeadView:
    return HeadView(collection_id=head.collection_id, number=head.number, code=head.code.hex())
