"""The audit trail: one chain of entries for each collection, protected by HMACs.

The MAC of an entry covers the entry and the MAC of the entry before it (as the signed logs of RFC 5848 do). The key is
outside the database. Without the key nobody can alter, remove or insert an entry so that the MACs of the later entries
still match. The head's MAC detects a chain that was cut off at its end. If an older head was restored with a cut chain,
only the comparison with exported heads detects it. The head names the key by an id that does not reveal it.
"""

import hashlib
import hmac
import json
import logging
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from service.gallery.access import audit_log
from service.gallery.access.audit_entries import SERVICE, Action, Actor, Entry, Event, Head
from service.gallery.access.audit_statements import APPEND, APPEND_MANY, COLLECTION, LOCKED_HEAD, arrays_of
from service.gallery.access.audit_verification import FIRST_MAC, ChainVerification
from service.gallery.storage.tables import audit_head

KEY_ID_BYTES = 8
_COLUMNS = tuple(item.name for item in fields(Entry))
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"))
"""Encodes what the MAC of an entry covers."""
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _EventKind:
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
    def of(cls, action: str, actor: Actor, details: Mapping[str, Any]) -> "_EventKind":
        """Encodes the values that an entry stores: the address of the client is one of its details."""
        stored = json.loads(json.dumps(details))
        if actor.client is not None:
            stored["client"] = actor.client
        key_id = None if actor.key_id is None else str(actor.key_id)
        values = [action, key_id, actor.key_name, actor.request_id]
        encoded = _CANONICAL.encode(values)[1:-1], _CANONICAL.encode(stored)
        return cls(action, actor.key_id, actor.key_name, actor.request_id, stored, *encoded)

    def message(self, collection_id: str, number: int, at: datetime, identity_id: uuid.UUID | None) -> bytes:
        """Returns the JSON array of an entry's values, in the order of the table and without its MAC."""
        identity = "null" if identity_id is None else f'"{identity_id}"'
        return f'["{collection_id}",{number},"{_in_utc(at)}",{self._actor},{identity},{self._details}]'.encode()


@lru_cache(maxsize=16)
def _in_utc(at: datetime) -> str:
    """Returns a time in ISO 8601. The events of a transaction share it."""
    return at.astimezone(UTC).isoformat()


class AuditTrail:
    """Appends to chains and verifies them.

    Args:
        key: key of the HMACs; None: nothing is recorded.
    """

    def __init__(self, key: bytes | None) -> None:
        self._key = key
        self._key_id = None if key is None else audit_key_id(key)

    @property
    def enabled(self) -> bool:
        return self._key is not None

    @property
    def key(self) -> bytes | None:
        """The key of the HMACs, from which the secrets of webhooks are derived."""
        return self._key

    async def append(
        self, connection: AsyncConnection, collection_id: uuid.UUID, events: Sequence[Event]
    ) -> list[Entry]:
        """Appends events in the caller's transaction, in two statements; returns the entries, or [] without a key.

        Call it last in the transaction: the chain's head stays locked until the transaction ends.
        """
        if self._key is None or not events:
            return []
        kinds = _kinds_of(events)  # before the lock, because it takes the most time
        head = await self._locked_head(connection, collection_id)
        if not hmac.compare_digest(head.head_mac, self._head_mac(collection_id, head.number, head.mac)):
            # A new head MAC without an entry would hide that the chain's end was cut off.
            log.error("the audit chain of collection %s was altered, or audit.key has changed", collection_id)
            events = [self._head_tampered(head), *events]
            kinds = _kinds_of(events)
        entries = self._entries(collection_id, head, events, kinds)
        number, mac = entries[-1].number, entries[-1].mac
        head_mac = self._head_mac(collection_id, number, mac)
        values = {"number": number, "mac": mac, "head_mac": head_mac, "mac_key_id": self._key_id}
        head_values = {f"head_{name}": value for name, value in values.items()} | {COLLECTION.key: collection_id}
        if len(entries) == 1:
            entry_values = {f"entry_{name}": value for name, value in _values(entries[0]).items()}
            await connection.execute(APPEND, entry_values | head_values)
        else:
            await connection.execute(APPEND_MANY, arrays_of(entries) | head_values)
        return entries

    async def verify(self, connection: AsyncConnection, collection_id: uuid.UUID, exported: Sequence[Head] = ()) -> int:
        """Verifies a whole chain and returns the number of its entries.

        Args:
            exported: heads of the chain that were exported earlier.

        Raises:
            AnotherKeyError: the chain, or a part of it, was made with another key and is complete.
            ChainBrokenError: an entry was altered, removed or inserted, or the chain's end is missing.
        """
        verification = ChainVerification(self._key_id, exported)
        async for entry in audit_log.read_all(connection, collection_id):
            mac = self._entry_mac(_message_of(entry), verification.mac)
            verification.add(entry, hmac.compare_digest(mac, entry.mac))
        head = await audit_log.find_head(connection, collection_id) or self._first_head(collection_id)
        head_mac = self._head_mac(collection_id, head.number, head.mac)
        verification.finish(head, hmac.compare_digest(head.head_mac, head_mac))
        return verification.number

    def _head_tampered(self, head: Head) -> Event:
        """Returns the event that states that the head's MAC does not match this key, and the id of the former key."""
        details: dict[str, Any] = {"number": head.number}
        if head.mac_key_id is not None and head.mac_key_id != self._key_id:
            details["mac_key_id"] = head.mac_key_id.hex()
        return Event(Action.HEAD_TAMPERED, SERVICE, details=details)

    def _first_head(self, collection_id: uuid.UUID) -> Head:
        return Head(collection_id, 0, FIRST_MAC, self._head_mac(collection_id, 0, FIRST_MAC), self._key_id)

    async def _locked_head(self, connection: AsyncConnection, collection_id: uuid.UUID) -> Head:
        parameters = {COLLECTION.key: collection_id}
        row = (await connection.execute(LOCKED_HEAD, parameters)).one_or_none()
        if row is None:  # the first entry of the collection
            first = upsert(audit_head).values(asdict(self._first_head(collection_id)))
            await connection.execute(first.on_conflict_do_nothing())
            row = (await connection.execute(LOCKED_HEAD, parameters)).one()
        return Head(**row._mapping)

    def _entries(
        self, collection_id: uuid.UUID, head: Head, events: Sequence[Event], kinds: Sequence[_EventKind]
    ) -> list[Entry]:
        """Returns the entries of events that follow the head."""
        entries: list[Entry] = []
        mac, name = head.mac, str(collection_id)
        for number, (event, kind) in enumerate(zip(events, kinds, strict=True), head.number + 1):
            mac = self._entry_mac(kind.message(name, number, event.at, event.identity_id), mac)
            entries.append(_entry(collection_id, number, event, kind, mac))
        return entries

    def _entry_mac(self, message: bytes, previous: bytes) -> bytes:
        """Returns the MAC of an entry. `previous`: the MAC of the entry before it."""
        return self._hmac(b"entry", previous, message)

    def _head_mac(self, collection_id: uuid.UUID, number: int, mac: bytes) -> bytes:
        return self._hmac(b"head", collection_id.bytes, number.to_bytes(8, "big"), mac)

    def _hmac(self, kind: bytes, *parts: bytes) -> bytes:
        """Returns the HMAC. All parts except the last have a fixed length, so that the encoding is unambiguous."""
        assert self._key is not None
        return hmac.digest(self._key, b"".join((kind, b"\x00", *parts)), hashlib.sha256)


def audit_key_id(key: bytes) -> bytes:
    """Returns the id of a key (8 bytes), which does not reveal the key (HKDF, RFC 5869)."""
    return HKDF(hashes.SHA256(), KEY_ID_BYTES, salt=None, info=b"identity-registry audit key id").derive(key)


def _entry(collection_id: uuid.UUID, number: int, event: Event, kind: _EventKind, mac: bytes) -> Entry:
    return Entry(
        collection_id=collection_id,
        number=number,
        at=event.at,
        action=kind.action,
        key_id=kind.key_id,
        key_name=kind.key_name,
        request_id=kind.request_id,
        identity_id=event.identity_id,
        details=kind.details,
        mac=mac,
    )


def _values(entry: Entry) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in _COLUMNS}


def _message_of(entry: Entry) -> bytes:
    """Returns the message of a stored entry."""
    actor = Actor(entry.key_id, entry.key_name, entry.request_id)
    kind = _EventKind.of(entry.action, actor, entry.details)
    return kind.message(str(entry.collection_id), entry.number, entry.at, entry.identity_id)


def _kinds_of(events: Sequence[Event]) -> list[_EventKind]:
    """Returns the kind of each event; events with the same actor and the same object of details share one."""
    known: dict[tuple[str, Actor, int], _EventKind] = {}
    kinds = []
    for event in events:
        key = event.action.value, event.actor, id(event.details)
        if (kind := known.get(key)) is None:
            kind = known[key] = _EventKind.of(event.action.value, event.actor, event.details)
        kinds.append(kind)
    return kinds
