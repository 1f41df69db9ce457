"""Removes the bytes of deleted rows from PostgreSQL's files, and reports where copies may remain."""

import time
from collections.abc import Iterator

from psycopg.errors import InsufficientPrivilege
from sqlalchemy import Connection, NullPool, create_engine
from sqlalchemy.exc import ProgrammingError

from service.errors import StartupError
from service.gallery.storage.distribution import is_distributed
from service.gallery.storage.nodes import on_every_node

TABLES = ("template", "centroid", "correction", "crop", "identity", "idempotency", "job_row", "group_member")
"""The tables with biometric data or references to it."""
_RELATIONS = f"""
    SELECT oid FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relname ~ '^({"|".join(TABLES)})(_[0-9]+)?$'
"""  # noqa: S608 - constants of this module
"""The tables and, on a node of Citus, their shards."""
_DELETE_STATISTICS = f"""
    DELETE FROM pg_statistic WHERE starelid IN ({_RELATIONS})
    OR starelid IN (SELECT indexrelid FROM pg_index WHERE indrelid IN ({_RELATIONS}))
"""  # noqa: S608 - constants of this module
"""Deletes the planner's statistics of the tables and of their index expressions."""


def purge(url: str) -> Iterator[str]:
    """Rewrites the tables with biometric data and their indexes without deleted rows, on all nodes of a Citus cluster.

    PostgreSQL leaves the bytes of a deleted row in its page, and those of index entries in the index, until it reuses
    the space. `VACUUM FULL` writes new files with the current rows and deletes the old files. It locks each table
    while it rewrites it. The planner's statistics contain values of rows too; they are deleted and computed again.

    Yields:
        Lines for the operator: what was done, and where copies of deleted data may remain.

    Raises:
        StartupError: the account does not own the tables, or a node of the cluster refuses a statement.
    """
    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT", hide_parameters=True)
    with engine.connect() as connection:
        owner = "SELECT pg_has_role(current_user, relowner, 'USAGE') FROM pg_class WHERE oid = 'template'::regclass"
        if not _value(connection, owner):
            raise StartupError("Only the owner of the tables can rewrite them; set database.owner_url.")
        for table in TABLES:
            before, started = _size(connection, table), time.monotonic()
            connection.exec_driver_sql(f"VACUUM (FULL) {table}")
            seconds = time.monotonic() - started
            yield f"{table}: {before / 1e6:.1f} MB -> {_size(connection, table) / 1e6:.1f} MB in {seconds:.1f} s"
        yield _delete_statistics(connection)
        yield "removed from tables and indexes: all rows that were deleted before this command"
        yield _checkpoint(connection)
        yield from _remaining_copies(connection)


def _delete_statistics(connection: Connection) -> str:
    message = "the planner's statistics of these tables were deleted and computed again"
    if not _permitted(connection, _DELETE_STATISTICS, "VACUUM (FULL) pg_statistic"):
        message = (
            "the planner's statistics (pg_statistic) may still contain external ids and metadata, because only a "
            "superuser can rewrite them; they never contain labels or embeddings"
        )
    for table in TABLES:
        connection.exec_driver_sql(f"ANALYZE {table}")
    return message


def _checkpoint(connection: Connection) -> str:
    if _permitted(connection, "SELECT pg_switch_wal()", "CHECKPOINT"):
        return "the old files are deleted"
    return "the old files are deleted at the next checkpoint, which this account may not request"


def _remaining_copies(connection: Connection) -> Iterator[str]:
    extent = "size not visible to this account"
    if logs := _permitted(connection, "SELECT count(*) || ' ' || coalesce(sum(size), 0) FROM pg_ls_waldir()"):
        files, size = (sum(map(int, numbers)) for numbers in zip(*(log.split() for log in logs), strict=True))
        extent = f"{files} files, {size / 1e6:.0f} MB"
    limit = _value(connection, "SHOW max_wal_size")
    yield (
        f"copies may remain in the write-ahead log ({extent}) until its files are overwritten, after about {limit} of "
        "further changes"
    )
    archives = on_every_node(connection, "SELECT current_setting('archive_mode')")
    slots = sum(int(count) for count in on_every_node(connection, "SELECT count(*) FROM pg_replication_slots"))
    if set(archives) != {"off"} or slots != 0:
        modes = ", ".join(sorted(set(archives)))
        yield (
            f"copies may remain in WAL archives and on replicas (archive_mode {modes}, {slots} replication slots) "
            "until those expire"
        )
    yield "copies remain in existing backups until you delete the backups"
    yield (
        "copies may remain in freed disk blocks until the file system reuses them or, on an encrypted disk, until its "
        "key is destroyed"
    )


def _permitted(connection: Connection, *statements: str) -> list[str]:
    """Returns the values of the last statement like `on_every_node`, or [] if the account may not execute them."""
    values: list[str] = []
    try:
        for statement in statements:
            values = on_every_node(connection, statement)
    except ProgrammingError as error:
        if isinstance(error.orig, InsufficientPrivilege):
            return []
        raise
    return values


def _size(connection: Connection, table: str) -> int:
    function = "citus_total_relation_size" if is_distributed(connection) else "pg_total_relation_size"
    return int(connection.exec_driver_sql(f"SELECT {function}('{table}'::regclass)").scalar_one())


def _value(connection: Connection, query: str) -> object:
    return connection.exec_driver_sql(query).scalar_one()
