"""Approximate indexes: one partial HNSW index per large collection and model, made and dropped at run time.

One index over all collections would lose small ones: filtering a 1 % collection through a global HNSW index found 3 %
of the true neighbours. Indexed are half-precision centroids, half as large and no worse in recall.
"""

import hashlib
import logging
import uuid
from collections.abc import Sequence

from sqlalchemy import ColumnElement, bindparam, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import Text, Uuid

from service.gallery.storage.database import Database
from service.gallery.storage.tables import centroid, model

PREFIX = "ann_"
BUILD_FROM = 5_000_000
"""Identities from which on the graph is worth what it misses: comparing all codes takes half a second there."""
DROP_BELOW = BUILD_FROM // 2
M, EF_CONSTRUCTION = 16, 64
LOCK = 0x616E6E
"""Key of the advisory lock that keeps two processes from building at once."""

log = logging.getLogger(__name__)


def index_name(collection_id: uuid.UUID, model_id: str) -> str:
    """A valid name of at most 63 characters, the same for the same pair."""
    return PREFIX + hashlib.sha256(f"{collection_id}/{model_id}".encode()).hexdigest()[:24]


def predicate(collection_id: uuid.UUID, model_id: str) -> Sequence[ColumnElement[bool]]:
    """The index's WHERE as literals: a parameter would keep the planner from proving that the index covers it."""
    return (
        centroid.c.collection_id == bindparam("ann_collection", collection_id, Uuid(), literal_execute=True),
        centroid.c.model_id == bindparam("ann_model", model_id, Text(), literal_execute=True),
    )


async def is_ready(connection: AsyncConnection, collection_id: uuid.UUID, model_id: str) -> bool:
    """Whether the pair's index exists and is complete. One look into the catalog, about 0.1 ms."""
    query = text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)")
    return bool((await connection.execute(query, {"name": index_name(collection_id, model_id)})).scalar())


async def maintain(
    database: Database, build_from: int = BUILD_FROM, drop_below: int = DROP_BELOW, memory_mb: int | None = None
) -> list[str]:
    """Build what large collections lack, drop what shrunken ones no longer need; the names of changed indexes.

    `memory_mb`: for building; where the graph does not fit, it takes many times as long. None: as the server says.
    Returns at once where another process is at it. A failed build leaves an INVALID index behind; it is removed here.
    """
    changed: list[str] = []
    async with database.autocommit() as connection:
        if not (await connection.execute(select(func.pg_try_advisory_lock(LOCK)))).scalar():
            return changed
        try:
            if memory_mb is not None:
                await connection.execute(text(f"SET maintenance_work_mem = '{memory_mb}MB'"))
            existing = await _existing(connection)
            for collection_id, model_id, dim, count in await _sizes(connection):
                name = index_name(collection_id, model_id)
                valid = existing.pop(name, None)
                if valid is False or (valid and count < drop_below):
                    await _drop(connection, name)
                    changed.append(name)
                if count >= build_from and not valid:
                    await _build(connection, name, collection_id, model_id, dim)
                    changed.append(name)
            for name in existing:  # of collections that are empty now
                await _drop(connection, name)
                changed.append(name)
        finally:
            await connection.execute(text("RESET maintenance_work_mem"))
            await connection.execute(select(func.pg_advisory_unlock(LOCK)))
    return changed


async def _existing(connection: AsyncConnection) -> dict[str, bool]:
    query = text(
        "SELECT c.relname, i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
        "WHERE i.indrelid = 'centroid'::regclass AND c.relname LIKE 'ann\\_%'"
    )
    return {row.relname: row.indisvalid for row in await connection.execute(query)}


async def _sizes(connection: AsyncConnection) -> Sequence[tuple[uuid.UUID, str, int, int]]:
    """Collection, model, dimension and number of centroids. ReadAuditBuffer the primary key alone, not the embeddings."""
    key = centroid.c.collection_id, centroid.c.model_id
    counts = select(*key, func.count().label("count")).group_by(*key).subquery()
    query = select(counts.c.collection_id, counts.c.model_id, model.c.dim, counts.c.count).join(
        model, model.c.id == counts.c.model_id
    )
    return [tuple(row) for row in await connection.execute(query)]


async def _build(connection: AsyncConnection, name: str, collection_id: uuid.UUID, model_id: str, dim: int) -> None:
    log.info("building %s", name)
    quoted = model_id.replace("'", "''").replace(":", "\\:")
    statement = (
        f"CREATE INDEX CONCURRENTLY {name} ON centroid USING hnsw ((embedding\\:\\:halfvec({dim})) halfvec_ip_ops) "
        f"WITH (m = {M}, ef_construction = {EF_CONSTRUCTION}) "
        f"WHERE collection_id = '{collection_id}' AND model_id = '{quoted}'"
    )
    await connection.execute(text(statement))
    # ANALYZE would copy half-precision embeddings into the statistics of the index's expression.
    await connection.execute(text(f"ALTER INDEX {name} ALTER COLUMN 1 SET STATISTICS 0"))


async def _drop(connection: AsyncConnection, name: str) -> None:
    log.info("dropping %s", name)
    await connection.execute(text(f"DROP INDEX CONCURRENTLY IF EXISTS {name}"))
