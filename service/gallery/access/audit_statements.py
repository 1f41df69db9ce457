"""The SQL statements that append to the audit trail, built once: building one takes longer than executing it."""

import json
from collections.abc import Sequence
from typing import Any

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

from service.gallery.access.audit_entries import Entry
from service.gallery.storage.binary_arrays import array_of, array_parameter
from service.gallery.storage.tables import audit, audit_head, labelled

COLLECTION = bindparam("collection", type_=Uuid())
_AT = DateTime(timezone=True)
# Built once: building a statement and computing its cache key take longer than executing it.
LOCKED_HEAD = select(*labelled(audit_head)).where(audit_head.c.collection_id == COLLECTION).with_for_update()
_MOVE_HEAD = (
    update(audit_head)
    .where(audit_head.c.collection_id == COLLECTION)
    .values({name: bindparam(f"head_{name}") for name in ("number", "mac", "head_mac", "mac_key_id")})
)
APPEND = _MOVE_HEAD.add_cte(
    insert(audit).values({column.key: bindparam(f"entry_{column.key}") for column in audit.c}).cte("appended")
)


def _append_many() -> Any:
    """Returns the statement that appends entries: one array for each column, and what entries share only once."""
    entry = func.unnest(
        array_parameter("kind", Integer()),
        array_parameter("at", _AT),
        array_parameter("identity", Uuid()),
        array_parameter("entry_mac", LargeBinary()),
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
        "collection_id": audit_head.c.collection_id,  # Citus finds the node of the insertion by this column
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
    heads = audit_head.join(first, audit_head.c.collection_id == COLLECTION)
    rows = select(*values.values()).select_from(heads.join(of_kind, of_kind.c.position == first.c.kind))
    return _MOVE_HEAD.add_cte(insert(audit).from_select(list(values), rows).cte("appended"))


APPEND_MANY = _append_many()


def arrays_of(entries: Sequence[Entry]) -> dict[str, Any]:
    """Returns the parameters of `APPEND_MANY`. Entries of one kind share the object of their details."""
    positions: dict[int, int] = {}
    kinds: list[Entry] = []
    for entry in entries:
        if id(entry.details) not in positions:
            kinds.append(entry)
            positions[id(entry.details)] = len(kinds)
    return {
        "first": entries[0].number,
        "kind": array_of(Integer(), [positions[id(entry.details)] for entry in entries]),
        "at": array_of(_AT, [entry.at for entry in entries]),
        "identity": array_of(Uuid(), [entry.identity_id for entry in entries]),
        "entry_mac": array_of(LargeBinary(), [entry.mac for entry in entries]),
        "action": [kind.action for kind in kinds],
        "key": [kind.key_id for kind in kinds],
        "key_name": [kind.key_name for kind in kinds],
        "request": [kind.request_id for kind in kinds],
        "details": [json.dumps(kind.details) for kind in kinds],
    }
