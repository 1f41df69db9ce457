"""Databases of a Citus cluster: CITUS_URL names its coordinator, as a role that may create databases on all nodes."""

import contextlib
import uuid
from collections.abc import Iterator

import psycopg
from sqlalchemy import URL, make_url


@contextlib.contextmanager
def new_database(cluster: str, distributed: bool = True) -> Iterator[str]:
    """Creates a database on the coordinator and the workers, and drops it at the end of the block.

    Args:
        distributed: the workers are nodes of the new database.
    """
    name = f"test_{uuid.uuid4().hex[:12]}"
    for node in nodes(cluster):
        _execute(node, f"CREATE DATABASE {name}")
        _execute(_database(node, name), "CREATE EXTENSION citus")
    url = _database(cluster, name)
    if distributed:
        add_nodes(url, cluster)
    try:
        yield url
    finally:
        for node in nodes(cluster):
            _execute(node, f"DROP DATABASE {name} WITH (FORCE)")


def add_nodes(url: str, cluster: str, limit: int | None = None) -> None:
    """Adds the workers of a cluster, or the first `limit` of them, to a database of its coordinator."""
    coordinator = make_url(cluster)
    _execute(url, f"SELECT citus_set_coordinator_host('{coordinator.host}', {coordinator.port})")
    for host, port in workers(cluster)[:limit]:
        _execute(url, f"SELECT citus_add_node('{host}', {port})")


def nodes(url: str) -> list[str]:
    """Returns the URLs of a database on the coordinator and on each worker."""
    coordinator = make_url(url)
    return [url, *(_str(coordinator.set(host=host, port=port)) for host, port in workers(url))]


def workers(cluster: str) -> list[tuple[str, int]]:
    """Returns host and port of each worker."""
    with psycopg.connect(_conninfo(cluster), autocommit=True) as connection:
        return connection.execute("SELECT node_name, node_port FROM citus_get_active_worker_nodes()").fetchall()


def _database(url: str, name: str) -> str:
    return _str(make_url(url).set(database=name))


def _str(url: URL) -> str:
    return url.render_as_string(hide_password=False)


def _execute(url: str, statement: str) -> None:
    with psycopg.connect(_conninfo(url), autocommit=True) as connection:
        connection.execute(statement)


def _conninfo(url: str) -> str:
    return url.replace("postgresql+psycopg://", "postgresql://", 1)
