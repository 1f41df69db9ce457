"""Responses about the audit trail."""

import uuid
from datetime import datetime
from typing import Any

from identity_registry.responses.base import Document


class AuditEntry(Document):
    """An entry of the audit trail.

    Attributes:
        key_id: API key of the caller; None if the service requires no keys or acted without a request.
        details: numbers and identifiers; no biometric data.
        mac: HMAC-SHA256 over the entry and all entries before it, hexadecimal.
    """

    number: int
    at: datetime
    action: str
    key_id: uuid.UUID | None = None
    key_name: str | None = None
    request_id: str | None = None
    identity_id: uuid.UUID | None = None
    details: dict[str, Any]
    mac: str


class AuditHead(Document):
    """The last entry of an audit chain. Store it outside the service to detect a truncated or replaced chain."""

    collection_id: uuid.UUID
    number: int
    mac: str
