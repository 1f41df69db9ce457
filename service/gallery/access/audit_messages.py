"""The messages that the MACs of the audit trail cover: the values of an entry as canonical JSON."""

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from service.gallery.access.audit_entries import Actor, Entry, Event

_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class EventKind:
    """What events of one kind by one actor have in common.

    Attributes:
        details: as JSON values.
    """

    action: str
    key_id: uuid.UUID | None
    key_name: str | None
    request_id: str | None
    details: dict[str, Any]
    _actor: str
    _details: str

    @classmethod
    def of(cls, action: str, actor: Actor, details: Mapping[str, Any]) -> "EventKind":
        """Encodes the values that an entry stores: the address of the client is one of its details."""
        stored = json.loads(json.dumps(details))
        if actor.client is not None:
            stored["client"] = actor.client
        key_id = None if actor.key_id is None else str(actor.key_id)
        values = [action, key_id, actor.key_name, actor.request_id]
        encoded = _CANONICAL.encode(values)[1:-1], _CANONICAL.encode(stored)
        return cls(action, actor.key_id, actor.key_name, actor.request_id, stored, *encoded)

    def message(self, collection_id: uuid.UUID, number: int, at: datetime, identity_id: uuid.UUID | None) -> bytes:
        """Returns the JSON array of an entry's values, in the order of the table and without its MAC."""
        identity = "null" if identity_id is None else f'"{identity_id}"'
        when = at.astimezone(UTC).isoformat()
        return f'["{collection_id}",{number},"{when}",{self._actor},{identity},{self._details}]'.encode()


def message_of(entry: Entry) -> bytes:
    """Returns the message of a stored entry."""
    actor = Actor(entry.key_id, entry.key_name, entry.request_id)
    kind = EventKind.of(entry.action, actor, entry.details)
    return kind.message(entry.collection_id, entry.number, entry.at, entry.identity_id)


def kinds_of(events: Sequence[Event]) -> list[EventKind]:
    """Returns the kind of each event; events with the same actor and the same object of details share one."""
    known: dict[tuple[str, Actor, int], EventKind] = {}
    kinds = []
    for event in events:
        key = event.action.value, event.actor, id(event.details)
        if (kind := known.get(key)) is None:
            kind = known[key] = EventKind.of(event.action.value, event.actor, event.details)
        kinds.append(kind)
    return kinds
