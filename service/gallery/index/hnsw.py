"""Approximate indexes: one partial HNSW index per large collection and model, created and dropped at run time.

A single index over all collections would have a low recall for small ones: with a filter on a collection of 1 % of the
rows, 3 % of the true neighbours were returned. The indexes contain half-precision centroids, which halves their size
without a loss of recall.
"""

import hashlib
import logging
import uuid
from collections.abc import Sequence

from sqlalchemy import Boolean, ColumnElement, bindparam, column, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import Text, Uuid

from service.gallery.storage.database import Database
from service.gallery.storage.tables import HNSW_INDEX_PREFIX, centroid, model

BUILD_FROM = 5_000_000
"""Identities. In smaller collections a search compares all binary codes, with a higher recall and in < 0.5 s."""
DROP_BELOW = BUILD_FROM // 2
M, EF_CONSTRUCTION = 16, 64
LOCK = 0x616E6E
"""Key of the advisory lock that prevents two processes from maintaining indexes at the same time."""

log = logging.getLogger(__name__)


def index_name(collection_id: uuid.UUID, model_id: str) -> str:
    """Returns the name of the index of a collection under a model. PostgreSQL allows 63 bytes."""
    return HNSW_INDEX_PREFIX + hashlib.sha256(f"{collection_id}/{model_id}".encode()).hexdigest()[:24]


def predicate(collection_id: uuid.UUID | None, model_id: str) -> Sequence[ColumnElement[bool]]:
    """Returns the WHERE clause of the index, with literals.

    With parameters, the planner could not prove that the partial index covers the query.
    """
    return (
        centroid.c.collection_id == bindparam("ann_collection", collection_id, Uuid(), literal_execute=True),
        centroid.c.model_id == bindparam("ann_model", model_id, Text(), literal_execute=True),
    )


def readiness(collection_id: uuid.UUID, model_id: str) -> ColumnElement[bool | None]:
    """Returns a subquery that is true if the index exists and is valid; NULL if it does not exist."""
    query = text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:index_name)")
    bound = query.bindparams(index_name=index_name(collection_id, model_id))
    return bound.columns(column("indisvalid", Boolean)).scalar_subquery()


async def is_ready(connection: AsyncConnection, collection_id: uuid.UUID, model_id: str) -> bool:
    """Returns True if the index of the collection and model exists and is valid. Reads the catalog, about 0.1 ms."""
    query = text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)")
    return bool((await connection.execute(query, {"name": index_name(collection_id, model_id)})).scalar())


async def maintain(
    database: Database, build_from: int = BUILD_FROM, drop_below: int = DROP_BELOW, memory_mb: int | None = None
) -> list[str]:
    """Builds missing indexes of large collections, and drops invalid ones and those of collections that have shrunk.

    Does nothing if another process is maintaining the indexes, or if the account does not own the table. A build that
    was interrupted leaves an INVALID index, which this function drops.

    Args:
        build_from: number of identities from which a collection gets an index.
        drop_below: number of identities below which an index is dropped.
        memory_mb: maintenance_work_mem during a build; a graph that does not fit takes many times as long to build.
            None: the server's setting.

    Returns:
        The names of the built and dropped indexes.
    """
    changed: list[str] = []
    async with database.autocommit() as connection:
        if not await _owns_table(connection):
            return changed
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
            for name in existing:  # indexes of collections that are empty or deleted
                await _drop(connection, name)
                changed.append(name)
        finally:
            await connection.execute(text("RESET maintenance_work_mem"))
            await connection.execute(select(func.pg_advisory_unlock(LOCK)))
    return changed


async def may_build(database: Database) -> bool:
    """Returns True if the account owns the table of centroids. PostgreSQL lets only owners create indexes."""
    async with database.transaction() as connection:
        return await _owns_table(connection)


async def _owns_table(connection: AsyncConnection) -> bool:
    query = text("SELECT pg_has_role(current_user, relowner, 'USAGE') FROM pg_class WHERE oid = 'centroid'::regclass")
    return bool((await connection.execute(query)).scalar())


async def _existing(connection: AsyncConnection) -> dict[str, bool]:
    query = text(
        "SELECT c.relname, i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
        "WHERE i.indrelid = 'centroid'::regclass AND c.relname LIKE 'ann\\_%'"
    )
    return {row.relname: row.indisvalid for row in await connection.execute(query)}


async def _sizes(connection: AsyncConnection) -> Sequence[tuple[uuid.UUID, str, int, int]]:
    """Returns (collection, model, dimension, number of centroids). Reads the primary key only, no embeddings."""
    key = centroid.c.collection_id, centroid.c.model_id
    counts = select(*key, func.count().label("count")).group_by(*key).subquery()
    query = select(counts.c.collection_id, counts.c.model_id, model.c.dim, counts.c.count).join(
        model, model.c.id == counts.c.model_id
    )
    return [tuple(row) for row in await connection.execute(query)]


async def _build(connection: AsyncConnection, name: str, collection_id: uuid.UUID, model_id: str, dim: int) -> None:
    log.info("building index %s", name)
    quoted = model_id.replace("'", "''").replace(":", "\\:")
    statement = (
        f"CREATE INDEX CONCURRENTLY {name} ON centroid USING hnsw ((embedding\\:\\:halfvec({dim})) halfvec_ip_ops) "
        f"WITH (m = {M}, ef_construction = {EF_CONSTRUCTION}) "
        f"WHERE collection_id = '{collection_id}' AND model_id = '{quoted}'"
    )
    await connection.execute(text(statement))
    # Without this, ANALYZE would copy embeddings into the statistics of the index expression.
    await connection.execute(text(f"ALTER INDEX {name} ALTER COLUMN 1 SET STATISTICS 0"))


async def _drop(connection: AsyncConnection, name: str) -> None:
    log.info("dropping index %s", name)
    await connection.execute(text(f"DROP INDEX CONCURRENTLY IF EXISTS {name}"))
