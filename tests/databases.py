"""Databases of their own for tests: on the server of the tests, or on the Citus cluster that CITUS_URL names."""

import contextlib
import os
import uuid
from collections.abc import Iterator

import psycopg
from sqlalchemy import make_url

from tools import citus

CLUSTER = os.environ.get("CITUS_URL")


def other_database(url: str, name: str) -> str:
    """Returns the URL of the database with this name on the same server."""
    return make_url(url).set(database=name).render_as_string(hide_password=False)


@contextlib.contextmanager
def new_database(url: str) -> Iterator[str]:
    """Creates an empty database, and drops it at the end of the block. Yields its URL.

    Args:
        url: a database of the server. If CITUS_URL is set, the new database is on all nodes of that cluster instead.
    """
    if CLUSTER is not None:
        with citus.new_database(CLUSTER) as created:
            yield created
        return
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(libpq(url), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        try:
            yield other_database(url, name)
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def libpq(url: str) -> str:
    """Returns a URL of SQLAlchemy as one of psycopg."""
    return url.replace("postgresql+psycopg://", "postgresql://", 1)
