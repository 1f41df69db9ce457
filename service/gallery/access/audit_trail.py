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
from dataclasses import asdict, fields
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from sqlalchemy import (
    ARRAY,
    BigInteger,
    DateTime,
    Integer,
    LargeBinary,
    Text,
    Uuid,
    bindparam,
    cast,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from service.gallery.access import audit_log
from service.gallery.access.audit_entries import SERVICE, Action, Entry, Event, Head
from service.gallery.access.audit_messages import EventKind, kinds_of, message_of
from service.gallery.access.audit_verification import FIRST_MAC, ChainVerification
from service.gallery.storage.tables import audit, audit_head, labelled

KEY_ID_BYTES = 8
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
    """Returns the statement that appends entries: one array for each column, and what entries share only once."""
    entry = func.unnest(
        bindparam("kind", type_=ARRAY(Integer)),
        bindparam("at", type_=ARRAY(DateTime(timezone=True))),
        bindparam("identity", type_=ARRAY(Uuid())),
        bindparam("entry_mac", type_=ARRAY(LargeBinary)),
    ).table_valued("kind", "at", "identity_id", "mac", with_ordinality="position", name="entry")
    kind = func.unnest(
        bindparam("action", type_=ARRAY(Text)),
        bindparam("key", type_=ARRAY(Uuid())),
        bindparam("key_name", type_=ARRAY(Text)),
        bindparam("request", type_=ARRAY(Text)),
        bindparam("details", type_=ARRAY(Text)),
    ).table_valued("action", "key_id", "key_name", "request_id", "details", with_ordinality="position", name="kind")
    first, of_kind = entry.render_derived(), kind.render_derived()
    values: dict[str, Any] = {
        "collection_id": _COLLECTION,
        "number": bindparam("first", type_=BigInteger) + first.c.position - 1,
        "at": first.c.at,
        "action": of_kind.c.action,
        "key_id": of_kind.c.key_id,
        "key_name": of_kind.c.key_name,
        "request_id": of_kind.c.request_id,
        "identity_id": first.c.identity_id,
        "details": cast(of_kind.c.details, JSONB),
        "mac": first.c.mac,
    }
    rows = select(*values.values()).join_from(first, of_kind, of_kind.c.position == first.c.kind)
    return _MOVE_HEAD.add_cte(insert(audit).from_select(list(values), rows).cte("appended"))


_APPEND_MANY = _append_many()
log = logging.getLogger(__name__)


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
        kinds = kinds_of(events)  # before the lock, because it takes the most time
        head = await self._locked_head(connection, collection_id)
        if not hmac.compare_digest(head.head_mac, self._head_mac(collection_id, head.number, head.mac)):
            # A new head MAC without an entry would hide that the chain's end was cut off.
            log.error("the audit chain of collection %s was altered, or audit.key has changed", collection_id)
            events = [self._head_tampered(head), *events]
            kinds = kinds_of(events)
        entries = self._entries(collection_id, head, events, kinds)
        number, mac = entries[-1].number, entries[-1].mac
        head_mac = self._head_mac(collection_id, number, mac)
        values = {"number": number, "mac": mac, "head_mac": head_mac, "mac_key_id": self._key_id}
        head_values = {f"head_{name}": value for name, value in values.items()} | {_COLLECTION.key: collection_id}
        if len(entries) == 1:
            entry_values = {f"entry_{name}": value for name, value in _values(entries[0]).items()}
            await connection.execute(_APPEND, entry_values | head_values)
        else:
            await connection.execute(_APPEND_MANY, _arrays(entries, kinds) | head_values)
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
            mac = self._entry_mac(message_of(entry), verification.mac)
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

    def _entries(
        self, collection_id: uuid.UUID, head: Head, events: Sequence[Event], kinds: Sequence[EventKind]
    ) -> list[Entry]:
        """Returns the entries of events that follow the head."""
        entries: list[Entry] = []
        mac = head.mac
        for number, (event, kind) in enumerate(zip(events, kinds, strict=True), head.number + 1):
            mac = self._entry_mac(kind.message(collection_id, number, event.at, event.identity_id), mac)
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


def _entry(collection_id: uuid.UUID, number: int, event: Event, kind: EventKind, mac: bytes) -> Entry:
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


def _arrays(entries: Sequence[Entry], kinds: Sequence[EventKind]) -> dict[str, Any]:
    """Returns the parameters of `_APPEND_MANY`."""
    positions: dict[int, int] = {}
    distinct: list[EventKind] = []
    for kind in kinds:
        if id(kind) not in positions:
            distinct.append(kind)
            positions[id(kind)] = len(distinct)
    return {
        "first": entries[0].number,
        "kind": [positions[id(kind)] for kind in kinds],
        "at": [entry.at for entry in entries],
        "identity": [entry.identity_id for entry in entries],
        "entry_mac": [entry.mac for entry in entries],
        "action": [kind.action for kind in distinct],
        "key": [kind.key_id for kind in distinct],
        "key_name": [kind.key_name for kind in distinct],
        "request": [kind.request_id for kind in distinct],
        "details": [json.dumps(kind.details) for kind in distinct],
    }


def _values(entry: Entry) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in _COLUMNS}
