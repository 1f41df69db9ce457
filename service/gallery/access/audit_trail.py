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
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from sqlalchemy import Column, Text, Uuid, bindparam, func, insert, select, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from service.gallery.access import audit_log
from service.gallery.access.audit_entries import SERVICE, Action, Entry, Event, Head
from service.gallery.access.audit_verification import FIRST_MAC, ChainVerification
from service.gallery.storage.tables import audit, audit_head, labelled

KEY_ID_BYTES = 8
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"))
"""Encodes what the MAC of an entry covers."""
_COLUMNS = tuple(item.name for item in fields(Entry))
_COLLECTION = bindparam("collection", type_=Uuid())
# Built once: building a statement and computing its cache key take longer than executing it.
_LOCKED_HEAD = select(*labelled(audit_head)).where(audit_head.c.collection_id == _COLLECTION).with_for_update()
_MOVE_HEAD = (
    update(audit_head)
    .where(audit_head.c.collection_id == _COLLECTION)
    .values({name: bindparam(f"head_{name}") for name in ("number", "mac", "head_mac", "mac_key_id")})
)
_APPEND = _MOVE_HEAD.add_cte(
    insert(audit).values({column.key: bindparam(f"entry_{column.key}") for column in audit.c}).cte("appended")
)


def _append_many() -> Any:
    """Returns the statement that appends the entries of its JSON parameter, which is faster than arrays."""
    names = [column.key for column in audit.c]
    columns = [Column(column.key, Text if column.key == "mac" else column.type) for column in audit.c]
    table = func.jsonb_to_recordset(bindparam("entries", type_=JSONB)).table_valued(*columns, name="entry")
    entry = table.render_derived(with_types=True)
    values = [func.decode(entry.c.mac, "hex") if name == "mac" else entry.c[name] for name in names]
    return _MOVE_HEAD.add_cte(insert(audit).from_select(names, select(*values)).cte("appended"))


_APPEND_MANY = _append_many()
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _PreparedEvent:
    """An event with its details as JSON values, and the part of its entry's message that follows the number."""

    event: Event
    details: dict[str, Any]
    encoded: str


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
        prepared = [_prepared(event) for event in events]  # before the lock, because it takes the most time
        head = await self._locked_head(connection, collection_id)
        if not hmac.compare_digest(head.head_mac, self._head_mac(collection_id, head.number, head.mac)):
            # A new head MAC without an entry would hide that the chain's end was cut off.
            log.error("the audit chain of collection %s was altered, or audit.key has changed", collection_id)
            prepared = [_prepared(self._head_tampered(head)), *prepared]
        entries = self._entries(collection_id, head, prepared)
        number, mac = entries[-1].number, entries[-1].mac
        head_mac = self._head_mac(collection_id, number, mac)
        values = {"number": number, "mac": mac, "head_mac": head_mac, "mac_key_id": self._key_id}
        head_values = {f"head_{name}": value for name, value in values.items()} | {_COLLECTION.key: collection_id}
        if len(entries) == 1:
            entry_values = {f"entry_{name}": value for name, value in _values(entries[0]).items()}
            await connection.execute(_APPEND, entry_values | head_values)
        else:
            await connection.execute(_APPEND_MANY, {"entries": [_json(entry) for entry in entries]} | head_values)
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
            mac = self._entry_mac(collection_id, entry.number, _encoded(entry, entry.details), verification.mac)
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
        parameters = {_COLLECTION.key: collection_id}
        row = (await connection.execute(_LOCKED_HEAD, parameters)).one_or_none()
        if row is None:  # the first entry of the collection
            first = upsert(audit_head).values(asdict(self._first_head(collection_id)))
            await connection.execute(first.on_conflict_do_nothing())
            row = (await connection.execute(_LOCKED_HEAD, parameters)).one()
        return Head(**row._mapping)

    def _entries(self, collection_id: uuid.UUID, head: Head, events: Sequence[_PreparedEvent]) -> list[Entry]:
        """Returns the entries of events that follow the head."""
        entries: list[Entry] = []
        mac = head.mac
        for number, prepared in enumerate(events, head.number + 1):
            mac = self._entry_mac(collection_id, number, prepared.encoded, mac)
            entries.append(_entry(collection_id, number, prepared, mac))
        return entries

    def _entry_mac(self, collection_id: uuid.UUID, number: int, encoded: str, previous: bytes) -> bytes:
        """Returns the MAC of an entry. Its message is the JSON array of the entry's values, in the order of the table.

        Args:
            encoded: the values after the number, as `_encoded` returns them.
            previous: the MAC of the entry before it.
        """
        return self._hmac(b"entry", previous, f'["{collection_id}",{number},{encoded}]'.encode())

    def _head_mac(self, collection_id: uuid.UUID, number: int, mac: bytes) -> bytes:
        return self._hmac(b"head", collection_id.bytes, number.to_bytes(8, "big"), mac)

    def _hmac(self, kind: bytes, *parts: bytes) -> bytes:
        """Returns the HMAC. All parts except the last have a fixed length, so that the encoding is unambiguous."""
        assert self._key is not None
        return hmac.digest(self._key, b"".join((kind, b"\x00", *parts)), hashlib.sha256)


def audit_key_id(key: bytes) -> bytes:
    """Returns the id of a key (8 bytes), which does not reveal the key (HKDF, RFC 5869)."""
    return HKDF(hashes.SHA256(), KEY_ID_BYTES, salt=None, info=b"identity-registry audit key id").derive(key)


def _prepared(event: Event) -> _PreparedEvent:
    details = json.loads(json.dumps(event.details))
    if event.actor.client is not None:
        details["client"] = event.actor.client
    return _PreparedEvent(event, details, _encoded(event, details))


def _encoded(event: Event | Entry, details: dict[str, Any]) -> str:
    """Returns the values of an entry after its number as canonical JSON, without brackets."""
    key_id, key_name, request_id = (
        (event.key_id, event.key_name, event.request_id)
        if isinstance(event, Entry)
        else (event.actor.key_id, event.actor.key_name, event.actor.request_id)
    )
    values = [
        event.at.astimezone(UTC).isoformat(),
        str(event.action),
        None if key_id is None else str(key_id),
        key_name,
        request_id,
        None if event.identity_id is None else str(event.identity_id),
        details,
    ]
    return _CANONICAL.encode(values)[1:-1]


def _entry(collection_id: uuid.UUID, number: int, prepared: _PreparedEvent, mac: bytes) -> Entry:
    event, actor = prepared.event, prepared.event.actor
    return Entry(
        collection_id=collection_id,
        number=number,
        at=event.at,
        action=event.action.value,
        key_id=actor.key_id,
        key_name=actor.key_name,
        request_id=actor.request_id,
        identity_id=event.identity_id,
        details=prepared.details,
        mac=mac,
    )


def _json(entry: Entry) -> dict[str, Any]:
    values = _values(entry) | {"at": entry.at.isoformat(), "mac": entry.mac.hex()}
    return {name: str(value) if isinstance(value, uuid.UUID) else value for name, value in values.items()}


def _values(entry: Entry) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in _COLUMNS}
