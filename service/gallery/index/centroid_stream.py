"""Reads centroids for an index in memory: all of a collection, or those that have changed since a snapshot."""

import uuid
from collections.abc import AsyncIterator, Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg
from psycopg import sql
from psycopg.abc import Buffer
from sqlalchemy.ext.asyncio import AsyncConnection

from service.gallery.index.centroids import codes_of
from service.gallery.index.index_table import CODE_BYTES, ID_BYTES, Bytes, Entries
from service.gallery.index.snapshots import Snapshot
from service.gallery.storage.tables import CODE_BITS

BATCH = 10_000
"""Rows of one message from the server. The event loop is blocked for about 3 ms while they are copied."""
# One value per row: PostgreSQL's binary formats one after the other. A missing code has zero bits.
_VALUE = sql.SQL(
    "uuid_send(c.identity_id) || coalesce(bit_send(c.code), '\\x{zeros}'::bytea) || int4send(c.template_count)"
    " || vector_send(c.embedding)"
).format(zeros=sql.SQL("00" * (4 + CODE_BYTES)))
_ALL = sql.SQL(
    "COPY (SELECT {value} FROM centroid c WHERE c.collection_id = {collection} AND c.model_id = {model}) "
    "TO STDOUT (FORMAT BINARY)"
)
_SIZE = (
    "SELECT (SELECT count(*) FROM centroid WHERE collection_id = %s AND model_id = %s), dim FROM model WHERE id = %s"
)
PART_ROWS = 500
"""Rows of a part. With 300 kB at 128 dimensions, a part stays in the processor's cache until it is converted."""
HEADER_BYTES, TRAILER_BYTES, PREFIX_BYTES = 19, 2, 6
"""Of COPY's binary format: what precedes and follows all rows, and what precedes the value of a row of one column."""
_CHANGED = sql.SQL(
    "DECLARE centroids NO SCROLL CURSOR FOR SELECT changed.collection_id, changed.model_id, "
    "uuid_send(changed.identity_id), {value} FROM (SELECT DISTINCT collection_id, model_id, identity_id "
    "FROM centroid_change WHERE {of_collections} AND transaction_id >= {xmin} "
    "AND NOT pg_visible_in_snapshot(transaction_id::text::xid8, {visible}::pg_snapshot)) changed "
    "LEFT JOIN (SELECT * FROM centroid WHERE {of_collections}) c USING (collection_id, model_id, identity_id)"
)


@dataclass(frozen=True, slots=True)
class Changes:
    """Changed centroids of one collection and model: present ones, and (n, 16) ids of those that are deleted."""

    collection_id: uuid.UUID
    model_id: str
    entries: Entries
    deleted: Bytes


def size_of(connection: "psycopg.Connection[Any]", collection_id: uuid.UUID, model_id: str) -> tuple[int, int]:
    """Returns the number of centroids of a collection under a model, and the number of the model's dimensions."""
    return connection.execute(_SIZE, [collection_id, model_id, model_id]).fetchone() or (0, 0)


def read_all(connection: "psycopg.Connection[Any]", collection_id: uuid.UUID, model_id: str) -> Iterator[bytes]:
    """Yields all centroids of a collection under a model, in parts for `parse_part`.

    COPY is twice as fast as a cursor. Its rows arrive one by one, which is fast without an event loop only.
    """
    # Parallel processes would take the processors of other requests.
    connection.execute("SET LOCAL max_parallel_workers_per_gather = 0")
    connection.execute("SET LOCAL jit = off")
    statement = _ALL.format(value=_VALUE, collection=sql.Literal(collection_id), model=sql.Literal(model_id))
    messages: list[Buffer] = []
    skipped = HEADER_BYTES
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for message in copy:
            messages.append(message)
            if len(messages) == PART_ROWS:
                yield b"".join(messages)[skipped:]
                messages, skipped = [], 0
    yield b"".join(messages)[skipped:-TRAILER_BYTES]


def parse_part(data: bytes, dim: int) -> Entries:
    """Returns the centroids, of `dim` dimensions, of a part that `read_all` has returned."""
    return _parse(data, _format(dim, PREFIX_BYTES))


async def changed_since(
    connection: AsyncConnection, collection_ids: Collection[uuid.UUID], snapshot: Snapshot
) -> AsyncIterator[Changes]:
    """Yields the centroids of these collections that have changed since the snapshot, under every model."""
    statement = _CHANGED.format(
        value=_VALUE,
        of_collections=_is_one_of(collection_ids),
        xmin=sql.Literal(snapshot.xmin),
        visible=sql.Literal(snapshot.visible),
    )
    async for rows in _batches(connection, statement):
        by_index: dict[tuple[uuid.UUID, str], list[Any]] = {}
        for row in rows:
            by_index.setdefault((row[0], row[1]), []).append(row)
        for (collection_id, model_id), changed in by_index.items():
            present = [row[3] for row in changed if row[3] is not None]
            deleted = b"".join(row[2] for row in changed if row[3] is None)
            yield Changes(
                collection_id,
                model_id,
                _parse(b"".join(present), _format(_dim_of(present))),
                np.frombuffer(deleted, np.uint8).reshape(-1, ID_BYTES),
            )


def _is_one_of(collection_ids: Collection[uuid.UUID]) -> sql.Composed:
    """Returns a condition. Citus executes a statement with a cursor only if it names a single collection."""
    if len(collection_ids) == 1:
        return sql.SQL("collection_id = {}").format(sql.Literal(next(iter(collection_ids))))
    return sql.SQL("collection_id = ANY({})").format(sql.Literal(list(collection_ids)))


async def _batches(connection: AsyncConnection, statement: sql.Composed) -> AsyncIterator[list[Any]]:
    """Yields the rows of a cursor in binary format, up to `BATCH` at a time."""
    raw = (await connection.get_raw_connection()).driver_connection
    assert isinstance(raw, psycopg.AsyncConnection)
    async with raw.cursor(binary=True) as cursor:
        # The rows are read to the end, and parallel processes would take the processors of other requests.
        await cursor.execute("SET LOCAL cursor_tuple_fraction = 1")
        await cursor.execute("SET LOCAL max_parallel_workers_per_gather = 0")
        await cursor.execute("SET LOCAL jit = off")
        await cursor.execute(statement)
        while True:
            await cursor.execute(f"FETCH {BATCH} FROM centroids")
            rows = await cursor.fetchall()
            if rows:
                yield rows
            if len(rows) < BATCH:
                await cursor.execute("CLOSE centroids")
                return


def _format(dim: int, prefix: int = 0) -> np.dtype[Any]:
    """Returns the format of `_VALUE`: see uuid_send, bit_send, int4send and vector_send (pgvector).

    Args:
        prefix: number of bytes before each value.
    """
    code = [("bits", ">i4"), ("code", np.uint8, (CODE_BYTES,))]
    embedding = [("dim", ">i2"), ("unused", ">i2"), ("embedding", ">f4", (dim,))]
    return np.dtype([("prefix", f"V{prefix}"), ("id", np.uint8, (ID_BYTES,)), *code, ("templates", ">i4"), *embedding])


def _dim_of(values: list[bytes]) -> int:
    return 0 if not values else (len(values[0]) - _format(0).itemsize) // 4


def _parse(data: bytes, layout: np.dtype[Any]) -> Entries:
    rows = np.frombuffer(data, layout)
    embeddings: npt.NDArray[np.float32] = np.ascontiguousarray(rows["embedding"], np.float32)
    codes = np.array(rows["code"])
    missing = rows["bits"] != CODE_BITS
    if missing.any():
        codes[missing] = codes_of(embeddings[missing])
    return Entries(np.ascontiguousarray(rows["id"]), codes, embeddings, rows["templates"].astype(np.int32))
