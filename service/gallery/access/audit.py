"""The audit trail: who did what to whose biometric data, when; one chain of entries for each collection.

Every entry's code is an HMAC over the entry and the code before it (as in RFC 5848's signed logs), under a key that
the database never sees. Whoever can write to the database alone can't alter an entry, take one out or put one in
without breaking the chain behind it. The head's seal tells a chain that was cut off at its end, unless an older head
was kept and put back; against that, heads are exported and compared.
"""

import hashlib
import hmac
import json
import logging
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Row, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from service.gallery.storage.tables import audit, audit_head

START = bytes(32)
AT_ONCE = 1000


log = logging.getLogger(__name__)


class ChainBrokenError(Exception):
    """A chain is not as it was written. `number`: the first entry that is concerned."""

    def __init__(self, words: str, *, number: int) -> None:
        super().__init__(words)
        self.number = number


class Action(StrEnum):
    """What was done. Nothing of a face stands in an entry: ids and numbers only."""

    ENROL = "enrol"
    VERIFY = "verify"
    SEARCH = "search"
    EMBED = "embed"
    PREDICT = "predict"
    CHANGE = "change"
    ERASE = "erase"
    EXPIRE = "expire"
    EXPORT = "export"
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
    MODEL_STANDBY = "model-standby"
    MODEL_ACTIVATE = "model-activate"
    MODEL_DROP = "model-drop"
    SEAL_BROKEN = "seal-broken"
    """The chain's end was not as it had been left when something was to be written next."""
    LOST = "lost"
    """So many entries about reading could not be kept while the database was away."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who. `key_id` None: the service asked for no key, or did it by itself."""

    key_id: uuid.UUID | None = None
    key_name: str | None = None
    request_id: str | None = None

    def to_json(self) -> dict[str, str | None]:
        """As it is kept with work that is done later."""
        return {
            "key_id": None if self.key_id is None else str(self.key_id),
            "key_name": self.key_name,
            "request_id": self.request_id,
        }

    @staticmethod
    def from_json(words: Mapping[str, str | None]) -> "Actor":
        key_id = words["key_id"]
        return Actor(None if key_id is None else uuid.UUID(key_id), words["key_name"], words["request_id"])


SERVICE = Actor(key_name="service")


@dataclass(frozen=True, slots=True)
class Event:
    """What is to be written down."""

    action: Action
    actor: Actor
    identity_id: uuid.UUID | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    at: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True, slots=True)
class Entry:
    """What stands in the trail."""

    collection_id: uuid.UUID
    number: int
    at: datetime
    action: str
    key_id: uuid.UUID | None
    key_name: str | None
    request_id: str | None
    identity_id: uuid.UUID | None
    details: dict[str, Any]
    code: bytes


@dataclass(frozen=True, slots=True)
class Head:
    """Where a chain ends."""

    collection_id: uuid.UUID
    number: int
    code: bytes
    seal: bytes


class AuditTrail:
    """Writes and checks chains.

    Args:
        key: of the HMAC; None: nothing is written.
    """

    def __init__(self, key: bytes | None) -> None:
        self._key = key

    @property
    def enabled(self) -> bool:
        return self._key is not None

    async def append(
        self, connection: AsyncConnection, collection_id: uuid.UUID, events: Sequence[Event]
    ) -> list[Entry]:
        """Write events down in the caller's transaction, as the last thing in it: the chain's end stays locked."""
        if self._key is None or not events:
            return []
        head = await self._locked_head(connection, collection_id)
        if not hmac.compare_digest(head.seal, self._seal(collection_id, head.number, head.code)):
            # Sealing it anew without a word would hide that its end was cut off.
            log.error(
                "the audit chain of collection %s was changed by somebody else, or under another key", collection_id
            )
            events = [Event(Action.SEAL_BROKEN, SERVICE, details={"number": head.number}), *events]
        entries: list[Entry] = []
        number, code = head.number, head.code
        for event in events:
            number += 1
            entry = _entry(collection_id, number, event)
            code = self._code(entry, code)
            entries.append(_with_code(entry, code))
        await connection.execute(insert(audit), [_values(entry) for entry in entries])
        await connection.execute(
            update(audit_head)
            .where(audit_head.c.collection_id == collection_id)
            .values(number=number, code=code, seal=self._seal(collection_id, number, code))
        )
        return entries

    async def check(self, connection: AsyncConnection, collection_id: uuid.UUID, known: Sequence[Head] = ()) -> int:
        """Go through a whole chain; how many entries it has.

        Args:
            known: heads of the chain that were exported before.

        Raises:
            ChainBrokenError: at the first entry that is not as it was written, or where the chain lacks its end.
        """
        number, code = 0, START
        exported = {head.number: head.code for head in known}
        async for entry in read_all(connection, collection_id):
            self._check_entry(entry, number, code)
            number, code = entry.number, entry.code
            if exported.pop(number, code) != code:
                raise ChainBrokenError(f"entry {number} is not the one whose head was exported", number=number)
        head = await find_head(connection, collection_id)
        self._check_end(head or self._first_head(collection_id), number, code, exported)
        return number

    def _check_entry(self, entry: Entry, number: int, code: bytes) -> None:
        if entry.number != number + 1:
            raise ChainBrokenError(f"entry {number + 1} is missing", number=number + 1)
        if not hmac.compare_digest(self._code(entry, code), entry.code):
            raise ChainBrokenError(f"entry {entry.number} or one before it was altered", number=entry.number)
        if entry.action == Action.SEAL_BROKEN:
            raise ChainBrokenError(f"the chain had been changed before entry {entry.number}", number=entry.number)

    def _check_end(self, head: Head, number: int, code: bytes, exported: Mapping[int, bytes]) -> None:
        if (head.number, head.code) != (number, code) or exported:
            longest = max([head.number, *exported])
            had = f"had {longest}" if longest > number else "its end is not recorded so"
            raise ChainBrokenError(f"the chain ends at entry {number} and {had}", number=number)
        if not hmac.compare_digest(head.seal, self._seal(head.collection_id, number, code)):
            raise ChainBrokenError(f"the chain was cut off at entry {number}: its end is not sealed", number=number)

    def _first_head(self, collection_id: uuid.UUID) -> Head:
        return Head(collection_id, 0, START, self._seal(collection_id, 0, START))

    async def _locked_head(self, connection: AsyncConnection, collection_id: uuid.UUID) -> Head:
        if (head := await find_head(connection, collection_id, lock=True)) is not None:
            return head
        first = upsert(audit_head).values(asdict(self._first_head(collection_id)))
        await connection.execute(first.on_conflict_do_nothing())
        head = await find_head(connection, collection_id, lock=True)
        assert head is not None
        return head

    def _code(self, entry: Entry, before: bytes) -> bytes:
        words = [
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
        text = json.dumps(words, sort_keys=True, separators=(",", ":"))
        return self._hmac(b"entry", before, text.encode())

    def _seal(self, collection_id: uuid.UUID, number: int, code: bytes) -> bytes:
        return self._hmac(b"head", collection_id.bytes, number.to_bytes(8, "big"), code)

    def _hmac(self, kind: bytes, *parts: bytes) -> bytes:
        """All parts but the last have a fixed length, so that no two messages are the same bytes."""
        assert self._key is not None
        return hmac.digest(self._key, b"".join((kind, b"\x00", *parts)), hashlib.sha256)


async def read_all(connection: AsyncConnection, collection_id: uuid.UUID) -> AsyncIterator[Entry]:
    """Every entry of a chain, in order."""
    after = 0
    while entries := await page(connection, collection_id, AT_ONCE, after):
        for entry in entries:
            yield entry
        after = entries[-1].number


async def page(
    connection: AsyncConnection,
    collection_id: uuid.UUID,
    limit: int,
    after: int = 0,
    identity_id: uuid.UUID | None = None,
    action: Action | None = None,
) -> list[Entry]:
    """Up to `limit` entries of a collection by number, beginning after one; those about that person, of that kind."""
    statement = select(audit).where(audit.c.collection_id == collection_id, audit.c.number > after)
    if identity_id is not None:
        statement = statement.where(audit.c.identity_id == identity_id)
    if action is not None:
        statement = statement.where(audit.c.action == action)
    return [_read(row) for row in await connection.execute(statement.order_by(audit.c.number).limit(limit))]


async def find_head(connection: AsyncConnection, collection_id: uuid.UUID, lock: bool = False) -> Head | None:
    """`lock`: nobody else appends until the transaction ends."""
    statement = select(audit_head).where(audit_head.c.collection_id == collection_id)
    row = (await connection.execute(statement.with_for_update() if lock else statement)).one_or_none()
    return None if row is None else Head(**row._mapping)


async def heads(connection: AsyncConnection, collection_id: uuid.UUID | None = None) -> list[Head]:
    """Of every chain, those of deleted collections among them, or of one collection."""
    statement = select(audit_head).order_by(audit_head.c.collection_id)
    if collection_id is not None:
        statement = statement.where(audit_head.c.collection_id == collection_id)
    return [Head(**row._mapping) for row in await connection.execute(statement)]


async def chains(connection: AsyncConnection) -> list[uuid.UUID]:
    """Collections that have entries or a head."""
    both = select(audit.c.collection_id).union(select(audit_head.c.collection_id)).subquery()
    return list((await connection.execute(select(both.c.collection_id).order_by(both.c.collection_id))).scalars())


async def count(connection: AsyncConnection) -> int:
    return (await connection.execute(select(func.count()).select_from(audit))).scalar_one()


def _entry(collection_id: uuid.UUID, number: int, event: Event) -> Entry:
    actor = event.actor
    details = json.loads(json.dumps(event.details))
    return Entry(
        collection_id, number, event.at, event.action.value, actor.key_id, actor.key_name, actor.request_id,
        event.identity_id, details, b"",
    )  # fmt: skip


def _with_code(entry: Entry, code: bytes) -> Entry:
    return Entry(**{item.name: getattr(entry, item.name) for item in fields(Entry)} | {"code": code})


def _values(entry: Entry) -> dict[str, Any]:
    return {item.name: getattr(entry, item.name) for item in fields(Entry)}


def _read(row: Row[Any]) -> Entry:
    return Entry(**row._mapping)
