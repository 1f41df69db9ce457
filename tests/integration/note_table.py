"""Writes and reads a table of notes in an embedded PostgreSQL."""

import psycopg


def libpq(url: str) -> str:
    return url.replace("postgresql+psycopg", "postgresql")


def insert_note(url: str, value: int) -> None:
    with psycopg.connect(libpq(url)) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS note (value int)")
        connection.execute("INSERT INTO note VALUES (%s)", [value])


def notes(url: str) -> list[int]:
    with psycopg.connect(libpq(url)) as connection:
        return [row[0] for row in connection.execute("SELECT value FROM note ORDER BY value")]


def accepts_connections(url: str) -> bool:
    try:
        with psycopg.connect(libpq(url), connect_timeout=2) as connection:
            return connection.execute("SELECT 1").fetchone() == (1,)
    except psycopg.OperationalError:
        return False
