"""Positions in the history of a database, from which a reader finds what has changed since.

PostgreSQL's `pg_snapshot` lists the transactions whose changes a statement sees. A change that it does not see belongs
to a transaction with an id of at least the snapshot's `xmin`, and `pg_visible_in_snapshot` is false for it.
"""

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg
from sqlalchemy import delete, func, text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.gallery.storage.nodes import on_node
from service.gallery.storage.tables import centroid_change

KEPT = timedelta(minutes=15)
"""Recorded changes are deleted at this age."""
MAX_AGE = KEPT / 3
"""Maximum age of a snapshot from which changes are read. The rest is a margin for slow transactions and clocks."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server process and a table of centroids. Snapshots of different ones must not be compared.

    After a failover or a restore, the same transaction id can belong to another transaction.

    Attributes:
        started_at: time at which the server process started.
        table: object id of the table of centroids. A restore creates the table again.
        is_node: it is a node of a Citus cluster, which has some of the collections.
    """

    started_at: datetime
    table: int
    is_node: bool = False


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot of one transaction or statement.

    Attributes:
        visible: PostgreSQL's text form: xmin:xmax:list of transactions in progress.
        taken_at: by the clock of the server.
    """

    visible: str
    server: Server
    taken_at: datetime

    @property
    def xmin(self) -> int:
        """The lowest id of a transaction that was in progress."""
        return int(self.visible.partition(":")[0])

    def position(self) -> tuple[int, int, int]:
        """Orders the snapshots of one server: with time, `xmin` and `xmax` grow and transactions in progress end."""
        xmin, xmax, in_progress = self.visible.split(":")
        return int(xmin), int(xmax), -len(in_progress.split(",")) if in_progress else 0

    def precedes(self, later: "Snapshot") -> bool:
        """Returns True if the changes between the two snapshots are recorded."""
        is_same = self.server == later.server and self.position() <= later.position()
        return is_same and later.taken_at - self.taken_at <= MAX_AGE


SERVER_COLUMNS = (
    "pg_postmaster_start_time() AS started_at, CAST(CAST('public.centroid' AS regclass) AS oid)::bigint AS table_id, "
    "to_regclass('pg_catalog.pg_dist_node') IS NOT NULL AS is_node, clock_timestamp() AS taken_at"
)
"""The columns of `server_and_time`."""
BEGIN = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"
"""Makes all statements of a transaction see the same snapshot. It must precede the first query."""
_COLUMNS = f"CAST(pg_current_snapshot() AS text), {SERVER_COLUMNS}"
_CURRENT, _READ = text(on_node(_COLUMNS, ":collection_id")), on_node(_COLUMNS, "%s")


async def current(connection: AsyncConnection, collection_id: uuid.UUID) -> Snapshot:
    """Returns the current snapshot of the server that stores a collection.

    In a transaction that began with `BEGIN` it is that of the following statements about the collection, or, on Citus,
    an earlier one.
    """
    row = (await connection.execute(_CURRENT, {"collection_id": collection_id})).one()
    return Snapshot(row[0], *server_and_time(*row[1:-1]))


def read(connection: "psycopg.Connection[Any]", collection_id: uuid.UUID) -> Snapshot:
    """Returns the snapshot like `current`."""
    row = connection.execute(_READ, [collection_id]).fetchone()
    assert row is not None
    return Snapshot(row[0], *server_and_time(*row[1:-1]))


def server_and_time(started_at: datetime, table: int, is_node: bool, taken_at: datetime) -> tuple[Server, datetime]:
    """Returns the server and its time from `SERVER_COLUMNS`."""
    return Server(started_at, table, is_node), taken_at


async def delete_old_changes(connection: AsyncConnection) -> None:
    """Deletes the records of changes that no index needs any more. The transaction must see all collections."""
    await connection.execute(delete(centroid_change).where(centroid_change.c.created_at < func.now() - KEPT))
