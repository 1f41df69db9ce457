"""Reads from the database which keys outside it are needed to verify its audit chains and decrypt its crops."""

from dataclasses import dataclass

import psycopg

_HAS_COLUMN = """
    SELECT 1 FROM information_schema.columns
    WHERE table_schema = 'public' AND table_name = %s AND column_name = %s
"""


@dataclass(frozen=True, slots=True)
class NeededKeys:
    """The ids of the keys with which the content of a database was made, hexadecimal, with the number of its rows.

    Attributes:
        audit: audit chains by the id of their key; the id `None` stands for chains whose head names no key.
        crops: stored crops by the id of their key.
    """

    audit: dict[str | None, int]
    crops: dict[str | None, int]


def read(url: str) -> NeededKeys:
    """Returns the keys that the content of a database needs. The schema may be that of an older release."""
    with psycopg.connect(url.replace("postgresql+psycopg://", "postgresql://", 1), autocommit=True) as connection:
        audit, crops = {}, {}
        if _has(connection, "audit_head", "mac_key_id"):
            audit = _count(connection, "SELECT encode(mac_key_id, 'hex'), count(*) FROM audit_head GROUP BY 1")
        elif _has(connection, "audit_head", "number"):
            audit = _count(connection, "SELECT NULL, count(*) FROM audit_head HAVING count(*) > 0")
        if _has(connection, "crop", "sealed"):
            crops = _count(connection, "SELECT encode(substr(sealed, 1, 4), 'hex'), count(*) FROM crop GROUP BY 1")
    return NeededKeys(audit, crops)


def _has(connection: "psycopg.Connection[tuple[object, ...]]", table: str, column: str) -> bool:
    return connection.execute(_HAS_COLUMN, [table, column]).fetchone() is not None


def _count(connection: "psycopg.Connection[tuple[object, ...]]", query: str) -> dict[str | None, int]:
    return dict(connection.execute(query).fetchall())  # type: ignore[arg-type]
