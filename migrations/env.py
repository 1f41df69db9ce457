"""Alembic's environment. The URL comes from the caller, from REGISTRY_DATABASE__URL, or from the embedded server."""

import logging
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from alembic import context
from psycopg.errors import LockNotAvailable
from sqlalchemy import Connection, Engine, create_engine, pool, text
from sqlalchemy.exc import OperationalError

from service.gallery.storage import row_security
from service.gallery.storage.schema import include_object, is_at_head, serves_already
from service.gallery.storage.server import database_url
from service.gallery.storage.tables import metadata
from service.runtime.settings import load_settings

LOCK = 0x6D6967
"""Key of the advisory lock that lines up processes which migrate at once."""
POLL_S = 0.2
LOCK_TIMEOUT = "3s"
ATTEMPTS = 20
log = logging.getLogger("alembic.env")


def url_in_use() -> AbstractContextManager[str]:
    if given := context.config.attributes.get("url"):
        return nullcontext(given)
    settings = load_settings()
    return database_url(settings.owner_url, settings.postgres_folder)


def password_of_app() -> str | None:
    attributes = context.config.attributes
    return attributes.get("app_password") if "url" in attributes else load_settings().app_password


@contextmanager
def alone(engine: Engine) -> Iterator[None]:
    """One process at a time migrates; the others look again and again.

    They must not wait inside the database: CREATE INDEX CONCURRENTLY waits for every statement that runs, theirs
    included. The lock is the session's, since such a migration is more than one transaction.
    """
    with engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        told = False
        while not connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": LOCK}).scalar():
            if not told:
                log.warning("another process migrates this database; waiting until it is done")
                told = True
            time.sleep(POLL_S)
        yield


def run_offline() -> None:
    """Print the SQL."""
    context.configure(dialect_name="postgresql", target_metadata=metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()


def run_patiently(connection: Connection) -> None:
    """Give up a lock that is not to be had soon, and ask for it again.

    A migration that waits for its table behind a long statement makes everybody wait who comes after it.
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
            log.warning("a table is in use; trying again (%d of %d)", attempt, ATTEMPTS)
            time.sleep(attempt)
        else:
            return


def run_online() -> None:
    with url_in_use() as url:
        engine = create_engine(url, poolclass=pool.NullPool, hide_parameters=True)
        with alone(engine), engine.connect() as connection:
            context.configure(
                connection=connection,
                target_metadata=metadata,
                include_object=include_object,
                compare_server_default=True,
                # Locks of several migrations together would deadlock with requests of a service that goes on.
                transaction_per_migration=True,
            )
            if not serves_already(connection):
                run_patiently(connection)
                if is_at_head(connection):
                    connection.commit()
                    with connection.begin():
                        row_security.ensure(connection, password_of_app())
        engine.dispose()


if context.is_offline_mode():
    run_offline()
else:
    run_online()
