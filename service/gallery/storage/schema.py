"""Migrates the database schema and checks its compatibility with this release."""

import logging
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, NullPool, create_engine, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import StartupError
from service.gallery.storage import queue_schema, row_security
from service.gallery.storage.tables import schema_serves

MIN_PGVECTOR = (0, 8, 0)
RECOMMENDED_PGVECTOR = (0, 8, 4)
"""pgvector 0.8.2 fixed an overflow in parallel index builds; 0.8.3 and 0.8.4 fixed index corruption by VACUUM."""

log = logging.getLogger(__name__)

_UPGRADE = "run `alembic upgrade head` or `identity-registry db upgrade`"


def alembic_config(url: str) -> Config:
    """Returns Alembic's configuration for the migrations of this release."""
    config = Config()
    config.set_main_option("script_location", str(_migrations()))
    config.attributes["url"] = url
    return config


def upgrade(url: str, revision: str = "head", app_password: str | None = None) -> None:
    """Migrates the schema to a revision. Processes that migrate concurrently wait for each other (advisory lock).

    Args:
        app_password: password for the role of the service, if it authenticates with one.
    """
    config = alembic_config(url)
    config.attributes["app_password"] = app_password
    command.upgrade(config, revision)


def after_restore(url: str) -> None:
    """Creates the schema of the task queue, which backups do not contain."""
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        queue_schema.install(connection)


def grant(url: str, app_password: str | None = None) -> None:
    """Grants the rights of the service's role on the tables, which a conversion has created again."""
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        row_security.ensure_app_role(connection, app_password)


@dataclass(frozen=True, slots=True)
class Release:
    """The schema revisions of a release.

    Attributes:
        wanted: the revision that the release was written for.
        known: that revision and its ancestors.
    """

    wanted: str
    known: frozenset[str]


@cache
def this_release() -> Release:
    """Returns the revisions of this release, read from its migrations."""
    scripts = ScriptDirectory(str(_migrations()))
    head = scripts.get_current_head()
    assert head is not None
    return Release(head, frozenset(script.revision for script in scripts.walk_revisions()))


def serves_already(connection: Connection) -> bool:
    """Returns True if a later release has migrated the database and this release is compatible with the result.

    There is nothing to migrate in this case.

    Raises:
        StartupError: a later release has migrated the database, and this release is not compatible with the result.
    """
    release = this_release()
    revision = _revision(connection)
    if revision is None or revision in release.known:
        return False
    if problem := _problem(connection, release):
        raise StartupError(problem)
    log.warning(
        "the schema is at revision %s of a later release, which is compatible with this one (%s)",
        revision,
        release.wanted,
    )
    return True


def is_at_head(connection: Connection) -> bool:
    """Returns True if the schema is at the revision that this release was written for."""
    return _revision(connection) == this_release().wanted


async def schema_problem(connection: AsyncConnection, release: Release) -> str | None:
    """Returns the reason why this release cannot use the database, or None if it can.

    A later release may have migrated the database. The table `schema_serves` then names the oldest revision whose
    release is compatible with the schema. Migrations that only add objects do not change it, so that the old release
    keeps serving during a rolling update.
    """
    return await connection.run_sync(_problem, release)


def _revision(connection: Connection) -> str | None:
    """Returns the current revision, or None if the database has no schema."""
    if connection.execute(text("SELECT to_regclass('alembic_version')")).scalar() is None:
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _problem(connection: Connection, release: Release) -> str | None:
    revision = _revision(connection)
    if revision == release.wanted:
        return None
    if revision is None:
        return f"the database has no schema; {_UPGRADE}"
    if revision in release.known:
        return f"the schema is at revision {revision}, this release needs {release.wanted}; {_UPGRADE}"
    oldest = connection.execute(select(schema_serves.c.from_revision)).scalar()
    if oldest in release.known:
        return None
    return (
        f"the schema is at revision {revision} and needs a release of revision {oldest} or later, this release is of "
        f"{release.wanted}; run the newer release"
    )


async def require_pgvector(connection: AsyncConnection) -> None:
    """Checks the version of pgvector. Logs a warning for versions with known index corruption.

    Raises:
        StartupError: pgvector is not installed or older than 0.8.0.
    """
    query = text("SELECT extversion FROM pg_extension WHERE extname = 'vector'")
    version = (await connection.execute(query)).scalar()
    check_pgvector_version(version)


def check_pgvector_version(version: str | None) -> None:
    """Checks a version of pgvector like `require_pgvector`. None: not installed."""
    if version is None:
        raise StartupError(f"the database has no extension pgvector; {_UPGRADE}, or CREATE EXTENSION vector")
    numbers = tuple(int(part) for part in version.split(".")[:3])
    if numbers < MIN_PGVECTOR:
        raise StartupError(f"pgvector {version} is too old; upgrade it to 0.8.4 or later (0.8.0 is the minimum).")
    if numbers < RECOMMENDED_PGVECTOR:
        log.warning("pgvector %s can corrupt indexes during VACUUM; upgrade it to 0.8.4 or later", version)


def _migrations() -> Path:
    return Path(str(resources.files("migrations")))
