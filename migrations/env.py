"""Alembic's environment.

The database is that of the caller's URL, of REGISTRY_DATABASE__URL, or the embedded server, in this order.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from alembic import context
from psycopg.errors import LockNotAvailable
from sqlalchemy import Connection, Engine, create_engine, pool, text
from sqlalchemy.exc import OperationalError

from service.gallery.storage import distribution, row_security
from service.gallery.storage.schema import is_at_head, serves_already
from service.gallery.storage.server import database_url
from service.gallery.storage.tables import metadata
from service.runtime.settings import load_settings

LOCK = 0x6D6967
"""Key of the advisory lock that allows one process at a time to migrate."""
POLL_S = 0.2
LOCK_TIMEOUT = "3s"
ATTEMPTS = 20
log = logging.getLogger("alembic.env")


def migrated_url() -> AbstractContextManager[str]:
    """Returns a context with the URL of the database to migrate."""
    if url := context.config.attributes.get("url"):
        return nullcontext(url)
    settings = load_settings()
    return database_url(settings.owner_url, settings.postgres_folder)


def app_password() -> str | None:
    """Returns the password for the role of the service, if it authenticates with one."""
    attributes = context.config.attributes
    return attributes.get("app_password") if "url" in attributes else load_settings().app_password


@contextmanager
def migration_lock(engine: Engine) -> Iterator[None]:
    """Holds the lock that allows one process at a time to migrate.

    Waiting processes poll: CREATE INDEX CONCURRENTLY waits for all running statements, and would wait forever for a
    statement that waits for the lock. The lock belongs to the session, because such a migration has several
    transactions.
    """
    with engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        logged = False
        while not connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": LOCK}).scalar():
            if not logged:
                log.warning("another process is migrating this database; waiting for it")
                logged = True
            time.sleep(POLL_S)
        yield


def run_offline() -> None:
    """Prints the SQL of the migrations."""
    context.configure(dialect_name="postgresql", target_metadata=metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()


def run_with_retries(connection: Connection) -> None:
    """Runs the migrations with a short lock timeout, and tries again after a timeout.

    While a migration waits for the lock on a table that a long statement uses, all later statements on the table wait
    too. The timeout limits their delay.
    """
    connection.execute(text(f"SET lock_timeout = '{LOCK_TIMEOUT}'"))
    connection.commit()
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with context.begin_transaction():
                context.run_migrations()
        except OperationalError as error:
            if attempt == ATTEMPTS or not isinstance(error.orig, LockNotAvailable):
                raise
            log.warning(
                "another statement locks a table of the migration; attempt %d of %d failed and is repeated",
                attempt,
                ATTEMPTS,
            )
            time.sleep(attempt)
        else:
            return


def distribute_if_empty(connection: Connection) -> None:
    """Distributes the tables among the nodes of a Citus cluster unless they contain identities on one server."""
    if distribution.worker_nodes(connection) == 0:
        return
    if not distribution.is_distributed(connection) and distribution.has_identities(connection):
        log.warning("this registry is on one node of a Citus cluster; `identity-registry db distribute` converts it")
        return
    for line in distribution.distribute(connection):
        log.info(line)


def run_online() -> None:
    with migrated_url() as url:
        engine = create_engine(url, poolclass=pool.NullPool, hide_parameters=True)
        with migration_lock(engine), engine.connect() as connection:
            context.configure(
                connection=connection,
                target_metadata=metadata,
                compare_server_default=True,
                # A transaction with the locks of several migrations could deadlock with requests of a running service.
                transaction_per_migration=True,
            )
            if not serves_already(connection):
                run_with_retries(connection)
                if is_at_head(connection):
                    connection.commit()
                    with connection.begin():
                        distribute_if_empty(connection)
                        distribution.create_local_view(connection)  # a restored database does not have it
                    with connection.begin():
                        row_security.ensure_app_role(connection, app_password())
        engine.dispose()


if context.is_offline_mode():
    run_offline()
else:
    run_online()
