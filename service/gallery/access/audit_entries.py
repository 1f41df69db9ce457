"""Audit events, and entries and heads of the audit trail."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from typing import Any


class ChainBrokenError(Exception):
    """A chain differs from the entries that were appended. `number`: number of the first affected entry."""

    def __init__(self, problem: str, *, number: int) -> None:
        super().__init__(problem)
        self.number = number


class AnotherKeyError(ChainBrokenError):
    """Entries of a chain were authenticated with another key, so that this key cannot verify them."""


class Action(StrEnum):
    """The kind of an event. An entry contains ids and counts only, and no data about a face."""

    ENROL = "enrol"
    VERIFY = "verify"
    SEARCH = "search"
    EMBED = "embed"
    PREDICT = "predict"
    CHANGE = "change"
    ERASE = "erase"
    EXPIRE = "expire"
    EXPORT = "export"
    GALLERY_REPORT = "gallery-report"
    DELETE_TEMPLATE = "delete-template"
    MERGE = "merge"
    SPLIT = "split"
    MOVE_OUT = "move-out"
    MOVE_IN = "move-in"
    CORRECT = "correct"
    JOB_START = "job-start"
    JOB_CANCEL = "job-cancel"
    COLLECTION_CREATE = "collection-create"
    COLLECTION_CHANGE = "collection-change"
    COLLECTION_DELETE = "collection-delete"
    MODEL_MIGRATION_START = "model-standby"
    MODEL_ACTIVATE = "model-activate"
    MODEL_DROP = "model-drop"
    WEBHOOK_CREATE = "webhook-create"
    WEBHOOK_DELETE = "webhook-delete"
    HEAD_TAMPERED = "seal-broken"
    """The head's MAC did not match when the next entry was appended."""
    EVENTS_LOST = "lost"
    """Events of read operations were dropped while the database was unreachable; `details.entries` is their number."""


@dataclass(frozen=True, slots=True)
class Actor:
    """The originator of an event.

    Attributes:
        key_id: None if the service requires no key or acts without a request.
        client: IP address of the client; None: a program of this machine, or addresses are not recorded.
    """

    key_id: uuid.UUID | None = None
    key_name: str | None = None
    request_id: str | None = None
    client: str | None = None

    def to_json(self) -> dict[str, str | None]:
        """Returns the JSON form, which is stored with jobs."""
        return {
            "key_id": None if self.key_id is None else str(self.key_id),
            "key_name": self.key_name,
            "request_id": self.request_id,
            "client": self.client,
        }

    @staticmethod
    def from_json(document: Mapping[str, str | None]) -> "Actor":
        key_id = None if document["key_id"] is None else uuid.UUID(document["key_id"])
        return Actor(key_id, document["key_name"], document["request_id"], document.get("client"))


SERVICE = Actor(key_name="service")
"""The actor of events that the service causes without a request."""


@dataclass(frozen=True, slots=True)
class Event:
    """An event to append to the audit trail of a collection."""

    action: Action
    actor: Actor
    identity_id: uuid.UUID | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    at: datetime = field(default_factory=partial(datetime.now, UTC))


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of the audit trail. `mac`: HMAC-SHA256 over the entry and the MAC of the entry before it."""

    collection_id: uuid.UUID
    number: int
    at: datetime
    action: str
    key_id: uuid.UUID | None
    key_name: str | None
    request_id: str | None
    identity_id: uuid.UUID | None
    details: dict[str, Any]
    mac: bytes


@dataclass(frozen=True, slots=True)
class Head:
    """The end of a chain.

    Attributes:
        mac: that of the last entry.
        head_mac: HMAC-SHA256 over collection, number and `mac`.
        mac_key_id: id of the key of both MACs; None: a release before 0.3 appended the last entry.
    """

    collection_id: uuid.UUID
    number: int
    mac: bytes
    head_mac: bytes
    mac_key_id: bytes | None = None
