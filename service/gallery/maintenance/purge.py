"""Taking the bytes of what was deleted out of PostgreSQL's files, and telling where they may still be."""

import time
from collections.abc import Iterator

import psycopg

from service.errors import StartupError

TABLES = ("template", "centroid", "correction", "crop", "identity", "idempotency", "job_row")
"""Those whose rows hold, or point at, a face."""
FORGET_STATISTICS = """
    DELETE FROM pg_statistic WHERE starelid = ANY(%s::regclass[])
    OR starelid IN (SELECT indexrelid FROM pg_index WHERE indrelid = ANY(%s::regclass[]))
"""
"""Of the tables, and of what their indexes are made of."""


def purge(url: str) -> Iterator[str]:
    """Rewrite the tables and their indexes without dead rows; yields what was done and what is left, for the operator.

    A deleted row's bytes stay in its page, and an index entry's in the index, until something else takes their place.
    `VACUUM FULL` writes new files with the living rows only and deletes the old ones. Each table is locked while it is
    rewritten. The planner's statistics hold values of rows as well, and are made anew.

    Raises:
        StartupError: the account does not own the tables.
    """
    with psycopg.connect(url.replace("postgresql+psycopg://", "postgresql://", 1), autocommit=True) as connection:
        owner = "SELECT pg_has_role(current_user, relowner, 'USAGE') FROM pg_class WHERE oid = 'template'::regclass"
        if not _one(connection, owner):
            raise StartupError("only the owner of the tables can rewrite them: name it in database.owner_url")
        for table in TABLES:
            before, started = _size(connection, table), time.monotonic()
            connection.execute(f"VACUUM (FULL) {table}")
            seconds = time.monotonic() - started
            yield f"{table}: {before / 1e6:.1f} MB -> {_size(connection, table) / 1e6:.1f} MB in {seconds:.1f} s"
        yield _statistics(connection)
        yield "gone from tables and indexes: every row that was deleted before"
        yield _checkpoint(connection)
        yield from _what_is_left(connection)


def _statistics(connection: "psycopg.Connection[tuple[int, ...]]") -> str:
    """Only a superuser may rewrite the catalog that they are in."""
    try:
        connection.execute(FORGET_STATISTICS, [list(TABLES), list(TABLES)])
        connection.execute("VACUUM (FULL) pg_statistic")
        words = "the planner's statistics of these tables were made anew"
    except psycopg.errors.InsufficientPrivilege:
        words = (
            "ids of yours may still be in the planner's statistics (pg_statistic), which only a superuser can rewrite; "
            "names and embeddings never are"
        )
    for table in TABLES:
        connection.execute(f"ANALYZE {table}")
    return words


def _checkpoint(connection: "psycopg.Connection[tuple[int, ...]]") -> str:
    try:
        connection.execute("SELECT pg_switch_wal()")
        connection.execute("CHECKPOINT")
    except psycopg.errors.InsufficientPrivilege:
        return "the old files are deleted at the next checkpoint, which this account may not ask for"
    return "the old files are deleted"


def _size(connection: "psycopg.Connection[tuple[int, ...]]", table: str) -> int:
    row = connection.execute("SELECT pg_total_relation_size(%s::regclass)", [table]).fetchone()
    assert row is not None
    return row[0]


def _what_is_left(connection: "psycopg.Connection[tuple[int, ...]]") -> Iterator[str]:
    try:
        row = connection.execute("SELECT count(*), coalesce(sum(size), 0)::bigint FROM pg_ls_waldir()").fetchone()
        assert row is not None
        words = f"{row[0]} files, {row[1] / 1e6:.0f} MB"
    except psycopg.errors.InsufficientPrivilege:
        words = "this account may not see how much"
    limit, archive, slots = (
        _one(connection, query)
        for query in ("SHOW max_wal_size", "SHOW archive_mode", "SELECT count(*) FROM pg_replication_slots")
    )
    yield (
        f"may still be in the write-ahead log ({words}) until its files are written over, by about {limit} of "
        "further changes"
    )
    if archive != "off" or slots != 0:
        yield f"archived or replicated elsewhere (archive_mode {archive}, {slots} slots): until those copies expire"
    yield "still in backups that were made before: until you delete them"
    yield (
        "the files' old blocks on the disk: until the file system uses them again, or, where the disk is encrypted, "
        "until its key is destroyed"
    )


def _one(connection: "psycopg.Connection[tuple[int, ...]]", query: str) -> object:
    row = connection.execute(query).fetchone()
    assert row is not None
    return row[0]
