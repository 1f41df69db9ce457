"""The schema's state: migrating it, and telling whether this release can work with it."""

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
from sqlalchemy.schema import SchemaItem

from service.errors import StartupError
from service.gallery.index.hnsw import PREFIX
from service.gallery.storage import queue_schema
from service.gallery.storage.tables import schema_serves

OLDEST_PGVECTOR = (0, 8, 0)
WANTED_PGVECTOR = (0, 8, 4)
"""0.8.2 fixed an overflow in parallel index builds, 0.8.3 and 0.8.4 index corruption under vacuum."""

log = logging.getLogger(__name__)


def alembic_config(url: str) -> Config:
    """Alembic's configuration for the migrations that came with this release."""
    config = Config()
    config.set_main_option("script_location", str(_migrations()))
    config.attributes["url"] = url
    return config


def upgrade(url: str, revision: str = "head", app_password: str | None = None) -> None:
    """Bring the schema to a revision; several processes may do so at once (an advisory lock lines them up).

    `app_password`: of the service's own account, where it logs in with one.
    """
    config = alembic_config(url)
    config.attributes["app_password"] = app_password
    command.upgrade(config, revision)


def after_restore(url: str) -> None:
    """Make what a backup does not hold: the job queue's schema."""
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        queue_schema.install(connection)


@dataclass(frozen=True, slots=True)
class Release:
    """What this release knows of the schema: the revision that it was written for, and that one's ancestors."""

    wanted: str
    known: frozenset[str]


@cache
def this_release() -> Release:
    """By the migrations that came with it."""
    scripts = ScriptDirectory(str(_migrations()))
    head = scripts.get_current_head()
    assert head is not None
    return Release(head, frozenset(script.revision for script in scripts.walk_revisions()))


def include_object(
    item: SchemaItem, name: str | None, kind: str, reflected: bool, compare_to: SchemaItem | None
) -> bool:
    """For Alembic's comparison: indexes made at run time are none of its business."""
    return not (kind == "index" and reflected and (name or "").startswith(PREFIX))


def serves_already(connection: Connection) -> bool:
    """Whether a later release has migrated the database and left it fit for this one: there is nothing to migrate then.

    Raises:
        StartupError: a later release has taken away what this one needs.
    """
    release = this_release()
    revision = _revision(connection)
    if revision is None or revision in release.known:
        return False
    if problem := _problem(connection, release):
        raise StartupError(problem)
    log.warning("the schema is at revision %s of a later release and serves this one (%s)", revision, release.wanted)
    return True


def is_at_head(connection: Connection) -> bool:
    """Whether the schema is the one that this release was written for."""
    return _revision(connection) == this_release().wanted


async def schema_problem(connection: AsyncConnection, release: Release) -> str | None:
    """What keeps this release from working with the database, or None.

    A later release may have migrated it already. Its migrations say from which revision on a release still works with
    what they made; one that only adds leaves that as it was, so that we go on serving while it takes over.
    """
    return await connection.run_sync(_problem, release)


def _revision(connection: Connection) -> str | None:
    """None where the database has no schema of ours."""
    if connection.execute(text("SELECT to_regclass('alembic_version')")).scalar() is None:
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _problem(connection: Connection, release: Release) -> str | None:
    revision = _revision(connection)
    if revision == release.wanted:
        return None
    if revision is None:
        return "the database has no schema yet: run `alembic upgrade head`"
    if revision in release.known:
        return f"the schema is at {revision}, this release works with {release.wanted}: run `alembic upgrade head`"
    serves = connection.execute(select(schema_serves.c.from_revision)).scalar()
    if serves in release.known:
        return None
    return (
        f"the schema is at revision {revision} and serves releases from {serves} on, this one is of {release.wanted}: "
        "run the newer release"
    )


async def require_pgvector(connection: AsyncConnection) -> None:
    """Refuse a pgvector that is too old, warn about one with known index corruption.

    Raises:
        StartupError: pgvector is missing or older than 0.8.0.
    """
    query = text("SELECT extversion FROM pg_extension WHERE extname = 'vector'")
    version = (await connection.execute(query)).scalar()
    check_pgvector_version(version)


def check_pgvector_version(version: str | None) -> None:
    """As `require_pgvector`, for a version that was read already."""
    if version is None:
        raise StartupError("The database has no pgvector: run `alembic upgrade head`, or CREATE EXTENSION vector")
    numbers = tuple(int(part) for part in version.split(".")[:3])
    if numbers < OLDEST_PGVECTOR:
        raise StartupError(f"pgvector {version} is too old: 0.8.0 or newer is needed, 0.8.4 or newer is wanted")
    if numbers < WANTED_PGVECTOR:
        log.warning("pgvector %s has known index corruption under vacuum; 0.8.4 or newer is wanted", version)


def _migrations() -> Path:
    return Path(str(resources.files("migrations")))
