"""Removes the bytes of deleted rows from PostgreSQL's files, and reports where copies may remain."""

import time
from collections.abc import Iterator

import psycopg

from service.errors import StartupError

TABLES = ("template", "centroid", "correction", "crop", "identity", "idempotency", "job_row", "group_member")
"""The tables with biometric data or references to it."""
DELETE_STATISTICS = """
    DELETE FROM pg_statistic WHERE starelid = ANY(%s::regclass[])
    OR starelid IN (SELECT indexrelid FROM pg_index WHERE indrelid = ANY(%s::regclass[]))
"""
"""Deletes the planner's statistics of the tables and of their index expressions."""


def purge(url: str) -> Iterator[str]:
    """Rewrites the tables with biometric data and their indexes without deleted rows.

    PostgreSQL leaves the bytes of a deleted row in its page, and those of index entries in the index, until it reuses
    the space. `VACUUM FULL` writes new files with the current rows and deletes the old files. It locks each table
    while it rewrites it. The planner's statistics contain values of rows too; they are deleted and computed again.

    Yields:
        Lines for the operator: what was done, and where copies of deleted data may remain.

    Raises:
        StartupError: the account does not own the tables.
    """
    with psycopg.connect(url.replace("postgresql+psycopg://", "postgresql://", 1), autocommit=True) as connection:
        owner = "SELECT pg_has_role(current_user, relowner, 'USAGE') FROM pg_class WHERE oid = 'template'::regclass"
        if not _value(connection, owner):
            raise StartupError("Only the owner of the tables can rewrite them; set database.owner_url.")
        for table in TABLES:
            before, started = _size(connection, table), time.monotonic()
            connection.execute(f"VACUUM (FULL) {table}")
            seconds = time.monotonic() - started
            yield f"{table}: {before / 1e6:.1f} MB -> {_size(connection, table) / 1e6:.1f} MB in {seconds:.1f} s"
        yield _delete_statistics(connection)
        yield "removed from tables and indexes: all rows that were deleted before this command"
        yield _checkpoint(connection)
        yield from _remaining_copies(connection)


def _delete_statistics(connection: "psycopg.Connection[tuple[int, ...]]") -> str:
    try:
        connection.execute(DELETE_STATISTICS, [list(TABLES), list(TABLES)])
        connection.execute("VACUUM (FULL) pg_statistic")
        message = "the planner's statistics of these tables were deleted and computed again"
    except psycopg.errors.InsufficientPrivilege:
        message = (
            "the planner's statistics (pg_statistic) may still contain external ids and metadata, because only a "
            "superuser can rewrite them; they never contain labels or embeddings"
        )
    for table in TABLES:
        connection.execute(f"ANALYZE {table}")
    return message


def _checkpoint(connection: "psycopg.Connection[tuple[int, ...]]") -> str:
    try:
        connection.execute("SELECT pg_switch_wal()")
        connection.execute("CHECKPOINT")
    except psycopg.errors.InsufficientPrivilege:
        return "the old files are deleted at the next checkpoint, which this account may not request"
    return "the old files are deleted"


def _size(connection: "psycopg.Connection[tuple[int, ...]]", table: str) -> int:
    row = connection.execute("SELECT pg_total_relation_size(%s::regclass)", [table]).fetchone()
    assert row is not None
    return row[0]


def _remaining_copies(connection: "psycopg.Connection[tuple[int, ...]]") -> Iterator[str]:
    try:
        row = connection.execute("SELECT count(*), coalesce(sum(size), 0)::bigint FROM pg_ls_waldir()").fetchone()
        assert row is not None
        extent = f"{row[0]} files, {row[1] / 1e6:.0f} MB"
    except psycopg.errors.InsufficientPrivilege:
        extent = "size not visible to this account"
    limit, archive, slots = (
        _value(connection, query)
        for query in ("SHOW max_wal_size", "SHOW archive_mode", "SELECT count(*) FROM pg_replication_slots")
    )
    yield (
        f"copies may remain in the write-ahead log ({extent}) until its files are overwritten, after about {limit} of "
        "further changes"
    )
    if archive != "off" or slots != 0:
        yield (
            f"copies may remain in WAL archives and on replicas (archive_mode {archive}, {slots} replication slots) "
            "until those expire"
        )
    yield "copies remain in existing backups until you delete the backups"
    yield (
        "copies may remain in freed disk blocks until the file system reuses them or, on an encrypted disk, until its "
        "key is destroyed"
    )


def _value(connection: "psycopg.Connection[tuple[int, ...]]", query: str) -> object:
    row = connection.execute(query).fetchone()
    assert row is not None
    return row[0]
