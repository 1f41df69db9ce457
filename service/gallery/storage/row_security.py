"""The service's database role and row-level security.

Policies show a transaction the rows of the collections that it has named with `allow_collection`, and no others, even
if a statement lacks the condition. They apply to roles that are neither superuser nor owner of the tables.
"""

import logging
import uuid

from psycopg import Connection as DriverConnection
from psycopg.errors import DuplicateObject, UniqueViolation
from sqlalchemy import ColumnElement, Connection, Text, func, make_url, text
from sqlalchemy.exc import DBAPIError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncConnection

from service.gallery.storage.app_role import APP_ROLE
from service.gallery.storage.distribution import is_distributed
from service.gallery.storage.local_collections import VIEW
from service.gallery.storage.nodes import on_every_node
from service.gallery.storage.tables import metadata

RESTRICTED_GRANTS = {
    "audit": "SELECT, INSERT",
    "audit_head": "SELECT, INSERT, UPDATE",
    "api_key": "SELECT",
    "model": "SELECT, INSERT",
    "schema_serves": "SELECT",
    "alembic_version": "SELECT",
    VIEW: "SELECT, UPDATE",
}
"""Tables on which the service's role has fewer rights than `DEFAULT_GRANT`. The audit trail is append-only.
Row locks require the right to update."""
DEFAULT_GRANT = "SELECT, INSERT, UPDATE, DELETE"
ROLE_ATTEMPTS = 10
CONCURRENT_CHANGE = "tuple concurrently updated"
log = logging.getLogger(__name__)


def ensure_app_role(connection: Connection, password: str | None = None) -> bool:
    """Creates the service's role if it is missing and grants its rights.

    It must run after every migration, because a migration may create tables, and after a restore, because a backup
    holds no grants.

    Args:
        password: password of the role; None if it does not log in with one.

    Returns:
        False if the migrating role may not create or use the service's role.
    """
    if not _create_role(connection):
        return False
    if password is not None:
        raw: DriverConnection[object] = connection.connection.driver_connection  # type: ignore[assignment]
        hashed = raw.pgconn.encrypt_password(password.encode(), APP_ROLE.encode(), b"scram-sha-256").decode()
        _execute_retried(connection, f"ALTER ROLE {APP_ROLE} PASSWORD '{hashed}'")
    if not _is_member(connection):
        return False
    _mark_jsonb_contains_leakproof(connection)
    # Citus cannot change reference tables after it has changed distributed tables in parallel; PostgreSQL ignores this.
    connection.exec_driver_sql("SET LOCAL citus.multi_shard_modify_mode = 'sequential'")
    connection.exec_driver_sql(f"GRANT USAGE ON SCHEMA public, procrastinate TO {APP_ROLE}")
    connection.exec_driver_sql(f"GRANT {DEFAULT_GRANT} ON ALL TABLES IN SCHEMA procrastinate TO {APP_ROLE}")
    connection.exec_driver_sql(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA procrastinate TO {APP_ROLE}")
    for table in (*metadata.tables, "alembic_version", VIEW):
        connection.exec_driver_sql(f"REVOKE ALL ON {table} FROM {APP_ROLE}")
        connection.exec_driver_sql(f"GRANT {RESTRICTED_GRANTS.get(table, DEFAULT_GRANT)} ON {table} TO {APP_ROLE}")
    if is_distributed(connection):
        connection.exec_driver_sql(f"GRANT UPDATE ON model TO {APP_ROLE}")  # its policies permit no update
    return True


def _is_member(connection: Connection) -> bool:
    """Returns True if the migrating role is, or can become, a member of the service's role."""
    if connection.execute(text("SELECT pg_has_role(:name, 'MEMBER')"), {"name": APP_ROLE}).scalar():
        return True
    return _try_privileged(
        connection,
        f"GRANT {APP_ROLE} TO CURRENT_USER",
        f"row-level security is off: this role cannot become a member of {APP_ROLE}",
    )


def _mark_jsonb_contains_leakproof(connection: Connection) -> None:
    """Declares `jsonb @> jsonb` leakproof: it raises no error that depends on its arguments.

    Without the declaration PostgreSQL evaluates the policy on every row before it uses the metadata index; a filter
    that one of 1,000 identities fulfils takes ten times as long (tools.bench_row_level_security). Only a superuser may
    declare it.
    """
    statement = "ALTER FUNCTION pg_catalog.jsonb_contains(jsonb, jsonb) LEAKPROOF"
    if is_distributed(connection):
        on_every_node(connection, statement)
    else:
        _try_privileged(connection, statement, "metadata filters cannot use their index under row-level security")


def _create_role(connection: Connection) -> bool:
    if connection.execute(text("SELECT 1 FROM pg_roles WHERE rolname = :name"), {"name": APP_ROLE}).scalar():
        return True
    statement = f"CREATE ROLE {APP_ROLE} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS"
    return _try_privileged(connection, statement, f"row-level security is off: the role {APP_ROLE} cannot be created")


def _execute_retried(connection: Connection, statement: str) -> None:
    """Executes a statement, again if a concurrent transaction has changed the same role.

    Roles belong to the server, and another database may migrate at this moment. PostgreSQL then fails with an internal
    error after the other transaction has ended, or says that the role exists.
    """
    for attempt in range(1, ROLE_ATTEMPTS + 1):
        try:
            with connection.begin_nested():
                connection.exec_driver_sql(statement)
        except DBAPIError as error:
            if statement.startswith("CREATE") and isinstance(error.orig, DuplicateObject | UniqueViolation):
                return
            if CONCURRENT_CHANGE not in str(error.orig) or attempt == ROLE_ATTEMPTS:
                raise
        else:
            return


def _try_privileged(connection: Connection, statement: str, consequence: str) -> bool:
    """Executes a statement; logs `consequence` and returns False if the migrating role may not execute it."""
    try:
        _execute_retried(connection, statement)
    except ProgrammingError as error:
        log.warning("%s: %s", consequence, error.orig)
        return False
    return True


async def exists(connection: AsyncConnection) -> bool:
    """Returns True if the service's role exists and the connected role may assume it."""
    query = text("SELECT pg_has_role(oid, 'MEMBER') FROM pg_roles WHERE rolname = :name")
    return bool((await connection.execute(query, {"name": APP_ROLE})).scalar())


async def row_security_applies(connection: AsyncConnection) -> bool:
    """Returns True if row-level security applies to the connected role."""
    query = text(
        "SELECT NOT (r.rolsuper OR r.rolbypassrls) AND row_security_active('identity') "
        "FROM pg_roles r WHERE r.rolname = current_user"
    )
    return bool((await connection.execute(query)).scalar())


def app_role_url(url: str) -> str:
    """Returns the URL with the service's role, for servers without passwords such as the embedded one."""
    return make_url(url).set(username=APP_ROLE).render_as_string(hide_password=False)


def allowing(collection_id: ColumnElement[uuid.UUID]) -> ColumnElement[str]:
    """Returns a SQL expression that, when selected, adds a collection to those that the transaction may see."""
    return func.public.allow_collection(collection_id, type_=Text)


_ALLOW_COLLECTION = text("SELECT public.allow_collection(:id)")
_ALLOW_ALL = text("SELECT public.allow_all_collections()")


async def allow_collection(connection: AsyncConnection, collection_id: uuid.UUID) -> None:
    """Adds a collection to those whose rows the transaction may see, until it ends."""
    await connection.execute(_ALLOW_COLLECTION, {"id": collection_id})


async def allow_all_collections(connection: AsyncConnection) -> None:
    """Shows the rows of all collections until the transaction ends, for lists of collections and maintenance."""
    await connection.execute(_ALLOW_ALL)
