"""Documents of the audit trail."""

import uuid
from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from service.gallery.access.audit_entries import Action, Entry, Head

ACTIONS = {
    Action.ENROL: "pictures were enrolled under the identity",
    Action.VERIFY: "two faces, or a face and the identity, were compared",
    Action.SEARCH: "the collection was searched",
    Action.EMBED: "embeddings of a picture were returned",
    Action.PREDICT: "faces of a picture were classified",
    Action.CHANGE: "label, metadata or retention time of the identity was changed",
    Action.ERASE: "the identity was erased by a request",
    Action.EXPIRE: "the identity was erased by the service because its retention time had passed",
    Action.EXPORT: "the data of the identity was exported",
    Action.GALLERY_REPORT: "templates of the collection were compared with each other",
    Action.DELETE_TEMPLATE: "a template of the identity was deleted",
    Action.MERGE: "other identities were merged into the identity",
    Action.SPLIT: "a new identity was created from templates of the identity",
    Action.MOVE_OUT: "the identity was moved to another collection",
    Action.MOVE_IN: "the identity was moved from another collection",
    Action.CORRECT: "a correction of the identity was created or deleted",
    Action.JOB_START: "a bulk enrolment was started",
    Action.JOB_CANCEL: "a job was cancelled",
    Action.WEBHOOK_CREATE: "a webhook was created",
    Action.WEBHOOK_DELETE: "a webhook was deleted",
    Action.COLLECTION_CREATE: "the collection was created",
    Action.COLLECTION_CHANGE: "settings of the collection were changed",
    Action.COLLECTION_DELETE: "the collection was deleted with its identities",
    Action.MODEL_MIGRATION_START: "a model migration was started, which sets the secondary model of the collection",
    Action.MODEL_ACTIVATE: "the active and the secondary model were exchanged",
    Action.MODEL_DROP: "the data of the secondary model was deleted",
    Action.HEAD_TAMPERED: "the head of the chain did not match its MAC, because it was altered or `audit.key` changed",
    Action.EVENTS_LOST: "`details.entries` events of read operations were dropped while the database was unreachable",
}
"""The meaning of every stored value. The values do not change, because the MACs of stored entries cover them."""


class EntryView(BaseModel):
    number: int
    at: datetime
    action: str = Field(
        description="kind of the event: " + "; ".join(f"`{action}`: {ACTIONS[action]}" for action in Action)
    )
    key_id: uuid.UUID | None = Field(
        description="API key of the caller; null: the service requires no key, or no request caused the event"
    )
    key_name: str | None
    request_id: str | None
    identity_id: uuid.UUID | None
    details: dict[str, Any] = Field(
        description="ids, counts, and `client`, the IP address of the client; nothing that describes a face"
    )
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
