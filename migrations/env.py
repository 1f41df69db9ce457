"""Alembic's environment. The URL comes from the caller, from REGISTRY_DATABASE__URL, or from the embedded server."""

from collections.abc import Iterator
from contextlib import contextmanager

from alembic import context
from sqlalchemy import create_engine, pool, text

from service.gallery.schema import include_object
from service.gallery.tables import metadata
from service.settings import load_settings

LOCK = 0x6D6967
"""Key of the advisory lock that lines up processes which migrate at once."""


@contextmanager
def database_url() -> Iterator[str]:
    if given := context.config.attributes.get("url"):
        yield given
        return
    settings = load_settings()
    if settings.database.url is not None:
        yield settings.database.url.get_secret_value()
        return
    from service.gallery.embedded.lease import EmbeddedPostgres

    with EmbeddedPostgres(settings.postgres_folder) as url:
        yield url


def run_offline() -> None:
    """Print the SQL."""
    context.configure(dialect_name="postgresql", target_metadata=metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()


def run_online() -> None:
    with database_url() as url:
        engine = create_engine(url, poolclass=pool.NullPool, hide_parameters=True)
        with engine.connect() as connection:
            context.configure(
                connection=connection,
                target_metadata=metadata,
                include_object=include_object,
                compare_server_default=True,
            )
            with context.begin_transaction():
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
                context.run_migrations()
        engine.dispose()


if context.is_offline_mode():
    run_offline()
else:
    run_online()
