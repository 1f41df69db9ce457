"""Reads a field of the metadata of identities for an index in memory: of a whole collection, or of some identities."""

import hashlib
import uuid
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

import numpy as np
import psycopg
from psycopg import sql
from sqlalchemy import ARRAY, Text, Uuid, bindparam, text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.gallery.index.fields import LARGEST, SMALLEST, Field, Path
from service.gallery.index.index_table import ID_BYTES, Bytes, FieldValues, literal

MAX_VALUES = 1_000
"""Maximum number of values whose hashes are remembered."""
_LAYOUT = np.dtype([("id", np.uint8, (ID_BYTES,)), ("hash", ">i4"), ("number", ">f4")])
# The cast to a smaller type fails outside its range, hence the limits. Zeros: the identity does not have the field.
_VALUE = f"""uuid_send(id) || int4send(coalesce(jsonb_hash(value), 0)) || float4send(CASE
    WHEN jsonb_typeof(value) IS DISTINCT FROM 'number' OR abs(value::numeric) < {SMALLEST} THEN 0
    ELSE least(greatest(value::numeric, -{LARGEST:.0f}), {LARGEST:.0f})::float4 END)"""
_ALL = sql.SQL(
    "SELECT string_agg(" + _VALUE + ", ''::bytea) FROM (SELECT id, metadata #> {path} AS value FROM identity "  # noqa: S608
    "WHERE collection_id = {collection} AND metadata #> {path} IS NOT NULL OFFSET 0) of_collection"
)
_SOME = text(
    f"SELECT string_agg({_VALUE}, ''::bytea) FROM (SELECT id, metadata #> :path AS value FROM identity "  # noqa: S608
    "WHERE collection_id = :collection AND id = ANY(CAST(:ids AS uuid[])) OFFSET 0) of_ids"
).bindparams(bindparam("path", type_=ARRAY(Text)), bindparam("collection", type_=Uuid()))
_HASHES = text(
    "SELECT array_agg(jsonb_hash(value::jsonb) ORDER BY number) "
    "FROM unnest(CAST(:values AS text[])) WITH ORDINALITY AS input(value, number)"
).bindparams(bindparam("values", type_=ARRAY(Text)))


def read_all(connection: "psycopg.Connection[Any]", collection_id: uuid.UUID, path: Path) -> FieldValues:
    """Returns the field of all identities of a collection that have it."""
    connection.execute("SET LOCAL max_parallel_workers_per_gather = 0")  # these are for requests
    connection.execute("SET LOCAL jit = off")
    statement = _ALL.format(path=sql.Literal(list(path)), collection=sql.Literal(collection_id))
    with connection.cursor(binary=True) as cursor:
        row = cursor.execute(statement).fetchone()
    return _parse(row[0] if row else None)


async def read(connection: AsyncConnection, collection_id: uuid.UUID, path: Path, ids: Bytes) -> FieldValues:
    """Returns the field of the identities with these (n, 16) ids, zeros for those that do not have it."""
    parameters = {"path": list(path), "collection": collection_id, "ids": literal(ids)}
    return _parse((await connection.execute(_SOME, parameters)).scalar_one())


class ValueHashes:
    """Remembers PostgreSQL's hashes of the most recently used values, by the SHA-256 of each value."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, int] = OrderedDict()

    async def of(self, connection: AsyncConnection, values: Iterable[str]) -> dict[str, int]:
        """Returns the hash of each of these values, which are in JSON."""
        digests = {value: hashlib.sha256(value.encode()).digest() for value in values}
        unknown = [value for value, digest in digests.items() if digest not in self._known]
        if unknown:
            hashes = (await connection.execute(_HASHES, {"values": unknown})).scalar_one()
            self._known.update(zip((digests[value] for value in unknown), hashes, strict=True))
        result = {value: self._known[digest] for value, digest in digests.items()}
        for digest in digests.values():
            self._known.move_to_end(digest)
        while len(self._known) > MAX_VALUES:
            self._known.popitem(last=False)
        return result


def _parse(data: bytes | None) -> FieldValues:
    rows = np.frombuffer(data or b"", _LAYOUT)
    values = Field(rows["hash"].astype(np.int32), rows["number"].astype(np.float32))
    return FieldValues(np.ascontiguousarray(rows["id"]), values)
