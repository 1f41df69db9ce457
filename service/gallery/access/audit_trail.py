"""The audit trail: one chain of entries for each collection, protected by HMACs.

The MAC of an entry covers the entry and the MAC of the entry before it (as the signed logs of RFC 5848 do). The key is
outside the database. Without the key nobody can alter, remove or insert an entry so that the MACs of the later entries
still match. The head's MAC detects a chain that was cut off at its end. If an older head was restored with a cut chain,
only the comparison with exported heads detects it.
"""

import hashlib
import hmac
import json
import logging
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from datetime import UTC
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from service.gallery.access import audit_log
from service.gallery.access.audit_entries import SERVICE, Action, ChainBrokenError, Entry, Event, Head
from service.gallery.storage.tables import audit, audit_head, labelled

FIRST_MAC = bytes(32)
_HEAD = select(*labelled(audit_head))
log = logging.getLogger(__name__)


class AuditTrail:
    """Appends to chains and verifies them.

    Args:
        key: key of the HMACs; None: nothing is recorded.
    """

    def __init__(self, key: bytes | None) -> None:
        self._key = key

    @property
    def enabled(self) -> bool:
        return self._key is not None

    async def append(
        self, connection: AsyncConnection, collection_id: uuid.UUID, events: Sequence[Event]
    ) -> list[Entry]:
        """Appends events in the caller's transaction, in two statements; returns the entries, or [] without a key.

        Call it last in the transaction: the chain's head stays locked until the transaction ends.
        """
        if self._key is None or not events:
            return []
        head = await self._locked_head(connection, collection_id)
        if not hmac.compare_digest(head.head_mac, self._head_mac(collection_id, head.number, head.mac)):
            # A new head MAC without an entry would hide that the chain's end was cut off.
            log.error("the audit chain of collection %s was altered, or audit.key has changed", collection_id)
            events = [Event(Action.HEAD_TAMPERED, SERVICE, details={"number": head.number}), *events]
        entries: list[Entry] = []
        number, mac = head.number, head.mac
        for event in events:
            number += 1
            entry = _entry(collection_id, number, event)
            mac = self._entry_mac(entry, mac)
            entries.append(replace(entry, mac=mac))
        rows = [_values(entry) for entry in entries]
        appended = insert(audit).values(rows[0] if len(rows) == 1 else rows).cte("appended")  # see centroids.store
        new_head = update(audit_head).where(audit_head.c.collection_id == collection_id)
        head_mac = self._head_mac(collection_id, number, mac)
        await connection.execute(new_head.values(number=number, mac=mac, head_mac=head_mac).add_cte(appended))
        return entries

    async def verify(self, connection: AsyncConnection, collection_id: uuid.UUID, exported: Sequence[Head] = ()) -> int:
        """Verifies a whole chain and returns the number of its entries.

        Args:
            exported: heads of the chain that were exported earlier.

        Raises:
            ChainBrokenError: an entry was altered, removed or inserted, or the chain's end is missing.
        """
        number, mac = 0, FIRST_MAC
        expected = {head.number: head.mac for head in exported}
        async for entry in audit_log.read_all(connection, collection_id):
            self._verify_entry(entry, number, mac)
            number, mac = entry.number, entry.mac
            if expected.pop(number, mac) != mac:
                raise ChainBrokenError(f"entry {number} differs from the exported head", number=number)
        head = await audit_log.find_head(connection, collection_id)
        self._verify_end(head or self._first_head(collection_id), number, mac, expected)
        return number

    def _verify_entry(self, entry: Entry, number: int, mac: bytes) -> None:
        if entry.number != number + 1:
            raise ChainBrokenError(f"entry {number + 1} is missing", number=number + 1)
        if not hmac.compare_digest(self._entry_mac(entry, mac), entry.mac):
            raise ChainBrokenError(f"entry {entry.number} or an earlier entry was altered", number=entry.number)
        if entry.action == Action.HEAD_TAMPERED:
            raise ChainBrokenError(f"the chain was altered before entry {entry.number}", number=entry.number)

    def _verify_end(self, head: Head, number: int, mac: bytes, expected: Mapping[int, bytes]) -> None:
        if (head.number, head.mac) != (number, mac) or expected:
            longest = max([head.number, *expected])
            detail = f"had {longest} entries" if longest > number else "its head does not match"
            raise ChainBrokenError(f"the chain ends at entry {number} and {detail}", number=number)
        if not hmac.compare_digest(head.head_mac, self._head_mac(head.collection_id, number, mac)):
            raise ChainBrokenError(f"the chain was cut off at entry {number}: the head's MAC is wrong", number=number)

    def _first_head(self, collection_id: uuid.UUID) -> Head:
        return Head(collection_id, 0, FIRST_MAC, self._head_mac(collection_id, 0, FIRST_MAC))

    async def _locked_head(self, connection: AsyncConnection, collection_id: uuid.UUID) -> Head:
        statement = _HEAD.where(audit_head.c.collection_id == collection_id).with_for_update()
        row = (await connection.execute(statement)).one_or_none()
        if row is None:  # the first entry of the collection
            first = upsert(audit_head).values(asdict(self._first_head(collection_id)))
            await connection.execute(first.on_conflict_do_nothing())
            row = (await connection.execute(statement)).one()
        return Head(**row._mapping)

    def _entry_mac(self, entry: Entry, previous: bytes) -> bytes:
        values = [
            str(entry.collection_id),
            entry.number,
            entry.at.astimezone(UTC).isoformat(),
            entry.action,
            None if entry.key_id is None else str(entry.key_id),
            entry.key_name,
            entry.request_id,
            None if entry.identity_id is None else str(entry.identity_id),
            entry.details,
        ]
        message = json.dumps(values, sort_keys=True, separators=(",", ":"))
        return self._hmac(b"entry", previous, message.encode())

    def _head_mac(self, collection_id: uuid.UUID, number: int, mac: bytes) -> bytes:
        return self._hmac(b"head", collection_id.bytes, number.to_bytes(8, "big"), mac)

    def _hmac(self, kind: bytes, *parts: bytes) -> bytes:
        """Returns the HMAC. All parts except the last have a fixed length, so that the encoding is unambiguous."""
        assert self._key is not None
        return hmac.digest(self._key, b"".join((kind, b"\x00", *parts)), hashlib.sha256)


def _entry(collection_id: uuid.UUID, number: int, event: Event) -> Entry:
    actor = event.actor
    return Entry(
        collection_id=collection_id,
        number=number,
        at=event.at,
        action=event.action.value,
        key_id=actor.key_id,
        key_name=actor.key_name,
        request_id=actor.request_id,
        identity_id=event.identity_id,
        details=json.loads(json.dumps(event.details)),
        mac=b"",
    )


def _values(entry: Entry) -> dict[str, Any]:
    return {item.name: getattr(entry, item.name) for item in fields(Entry)}
