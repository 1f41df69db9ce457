"""The second wall: the account that the service works under, and what it may see of the gallery.

Row-level security shows a transaction the rows of those collections that it has entered, and of no other, whatever a
statement forgets to say. It holds for accounts that are neither superuser nor owner of the tables.
"""

import logging
import uuid

from psycopg import Connection as DriverConnection
from sqlalchemy import Connection, make_url, text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import AsyncConnection

from service.gallery.storage.tables import metadata

APP = "registry_app"
"""The service's account. Accounts of your own do as well, where they are members of it."""
ENTERED, EVERYTHING = "registry.collections", "registry.everything"
"""Settings of a transaction: ids of collections with commas between them; `on` for what concerns all."""
LESS = {
    "audit": "SELECT, INSERT",
    "audit_head": "SELECT, INSERT, UPDATE",
    "api_key": "SELECT",
    "model": "SELECT, INSERT",
    "schema_serves": "SELECT",
    "alembic_version": "SELECT",
}
"""What the service may do with a table, where it is less than everything: the audit trail is only ever added to."""
ALL = "SELECT, INSERT, UPDATE, DELETE"
log = logging.getLogger(__name__)


def ensure(connection: Connection, password: str | None = None) -> bool:
    """Make the service's account where there is none, and give it its rights; False where that is not allowed.

    Needed after every migration, which may have made tables, and after a restore, since a dump holds no rights.

    Args:
        password: of the account, where it logs in with one.
    """
    if not _made(connection):
        return False
    if password is not None:
        raw: DriverConnection[object] = connection.connection.driver_connection  # type: ignore[assignment]
        hashed = raw.pgconn.encrypt_password(password.encode(), APP.encode(), b"scram-sha-256").decode()
        connection.exec_driver_sql(f"ALTER ROLE {APP} PASSWORD '{hashed}'")
    if not _is_member(connection):
        return False
    _let_filters_use_their_index(connection)
    connection.exec_driver_sql(f"GRANT USAGE ON SCHEMA public, procrastinate TO {APP}")
    connection.exec_driver_sql(f"GRANT {ALL} ON ALL TABLES IN SCHEMA procrastinate TO {APP}")
    connection.exec_driver_sql(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA procrastinate TO {APP}")
    for table in (*metadata.tables, "alembic_version"):
        connection.exec_driver_sql(f"REVOKE ALL ON {table} FROM {APP}")
        connection.exec_driver_sql(f"GRANT {LESS.get(table, ALL)} ON {table} TO {APP}")
    return True


def _is_member(connection: Connection) -> bool:
    """Whether the migrating account may act as the service's, which somebody else may have made."""
    if connection.execute(text("SELECT pg_has_role(:name, 'MEMBER')"), {"name": APP}).scalar():
        return True
    return _allowed(connection, f"GRANT {APP} TO CURRENT_USER", f"this account can't act as {APP}; no second wall")


def _let_filters_use_their_index(connection: Connection) -> None:
    """Call `jsonb @> jsonb` leakproof, as it is: it raises nothing that depends on what it looks at.

    PostgreSQL doesn't say so by itself, and then looks at every row before it asks an index about one: a filter that
    one of a thousand people fulfil takes ten times as long behind the wall (`python -m tools.bench_wall`). Only a
    superuser may say so; without, filters are slower and no less right.
    """
    _allowed(
        connection,
        "ALTER FUNCTION pg_catalog.jsonb_contains(jsonb, jsonb) LEAKPROOF",
        "metadata filters can't use their index behind the second wall",
    )


def _made(connection: Connection) -> bool:
    if connection.execute(text("SELECT 1 FROM pg_roles WHERE rolname = :name"), {"name": APP}).scalar():
        return True
    statement = f"CREATE ROLE {APP} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS"
    return _allowed(connection, statement, f"the account {APP} can't be made; no second wall")


def _allowed(connection: Connection, statement: str, otherwise: str) -> bool:
    """Whether the migrating account could do it; else it is told what follows."""
    try:
        with connection.begin_nested():
            connection.exec_driver_sql(statement)
    except ProgrammingError as error:
        log.warning("%s: %s", otherwise, error.orig)
        return False
    return True


async def exists(connection: AsyncConnection) -> bool:
    """Whether there is the service's account, and who is connected may act as it."""
    query = text("SELECT pg_has_role(oid, 'MEMBER') FROM pg_roles WHERE rolname = :name")
    return bool((await connection.execute(query, {"name": APP})).scalar())


async def row_security_applies(connection: AsyncConnection) -> bool:
    """Whether row-level security holds for who is connected here."""
    query = text(
        "SELECT NOT (r.rolsuper OR r.rolbypassrls) AND row_security_active('identity') "
        "FROM pg_roles r WHERE r.rolname = current_user"
    )
    return bool((await connection.execute(query)).scalar())


def app_role_url(url: str) -> str:
    """The same database, logged in as the service's account; for servers that ask for no password, as the embedded."""
    return make_url(url).set(username=APP).render_as_string(hide_password=False)


async def enter(connection: AsyncConnection, collection_id: uuid.UUID) -> None:
    """Let the rows of a collection be seen until the transaction ends; of those entered before as well."""
    statement = text(
        f"SELECT set_config('{ENTERED}', concat_ws(',', nullif(current_setting('{ENTERED}', true), ''), "
        "CAST(:id AS text)), true)"
    )
    await connection.execute(statement, {"id": str(collection_id)})


async def allow_all_collections(connection: AsyncConnection) -> None:
    """For what concerns all collections: lists of them, and maintenance."""
    await connection.execute(text(f"SET LOCAL {EVERYTHING} = 'on'"))
