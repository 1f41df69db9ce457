"""Backup and restore preserve all rows."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psycopg
import pytest
from sqlalchemy import text

from service.errors import StartupError
from service.gallery.maintenance import backup
from service.gallery.maintenance.backup import TABLES
from service.gallery.people import collections
from service.gallery.storage import row_security, schema
from service.gallery.storage.database import Database
from tests.databases import libpq, new_database, other_database
from tests.gallery_rows import enrol, unit

pytestmark = pytest.mark.anyio


def content(url: str) -> dict[str, tuple[int, str]]:
    """Returns the number of rows of each table and a digest of them, embeddings included."""
    digests = {}
    with psycopg.connect(libpq(url)) as connection:
        for table in set(TABLES) - {"centroid_change"}:  # ids of transactions, which another database does not have
            query = f"SELECT count(*), md5(coalesce(string_agg(t::text, '|' ORDER BY t::text), '')) FROM {table} t"
            digests[table] = connection.execute(query).fetchone()  # type: ignore[arg-type]
    return digests  # type: ignore[return-value]


@pytest.fixture
async def filled(empty_database: str) -> str:
    schema.upgrade(empty_database)
    database = Database(empty_database)
    async with database.transaction() as connection:
        await collections.add_model(connection, "tiny", 16, "0" * 64)
        collection = await collections.create(connection, "people", "tiny")
    for number in range(30):
        await enrol(database, collection, f"p{number}", unit(np.random.default_rng(number), 2))
    await database.close()
    return empty_database


@pytest.fixture
def target(postgres_url: str) -> Iterator[str]:
    """The URL of a second database without tables."""
    with new_database(postgres_url) as url:
        yield url


async def test_a_restored_backup_has_the_same_rows(filled: str, target: str, tmp_path: Path) -> None:
    file = tmp_path / "registry.dump"
    assert backup.backup(filled, file) == file.stat().st_size > 1000
    assert file.stat().st_mode & 0o077 == 0
    backup.restore(target, file)
    assert content(target) == content(filled)
    with pytest.raises(StartupError, match="already contains a registry"):
        backup.restore(target, file)
    with pytest.raises(StartupError, match="already exists"):
        backup.backup(filled, file)


async def test_a_restore_replaces_all_tables_or_changes_nothing(filled: str, tmp_path: Path) -> None:
    file = tmp_path / "registry.dump"
    backup.backup(filled, file)
    before = content(filled)
    database = Database(filled)
    async with database.transaction() as connection:
        await connection.execute(text("DELETE FROM identity WHERE external_id < 'p2'"))
    await database.close()
    changed = content(filled)
    truncated = tmp_path / "truncated.dump"
    truncated.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(StartupError, match=r"failed|not a backup"):
        backup.restore(filled, truncated, replace=True)
    assert content(filled) == changed != before
    backup.restore(filled, file, replace=True)
    assert content(filled) == before


async def test_a_failed_backup_leaves_no_file(empty_database: str, tmp_path: Path) -> None:
    missing = other_database(empty_database, "nothing_here")
    with pytest.raises((StartupError, psycopg.OperationalError)):
        backup.backup(missing, tmp_path / "x.dump")
    with pytest.raises(StartupError, match="contains no registry"):
        backup.backup(empty_database, tmp_path / "x.dump")
    with pytest.raises(StartupError, match=r"backups does not exist; mount or create it"):
        backup.backup(empty_database, tmp_path / "backups" / "x.dump")
    assert list(tmp_path.iterdir()) == []


async def test_the_command_line_backs_up_and_restores(filled: str, target: str, tmp_path: Path) -> None:
    def run(url: str, *command: str) -> str:
        process = subprocess.run(
            [sys.executable, "-m", "service", "db", *command],
            env=os.environ | {"REGISTRY_DATABASE__URL": url},
            capture_output=True,
            text=True,
        )
        assert process.returncode == 0, process.stderr
        return process.stdout

    file = str(tmp_path / "registry.dump")
    assert "MB" in run(filled, "backup", file)
    assert "restored" in run(target, "restore", file)
    assert content(target) == content(filled)
    database = Database(row_security.app_role_url(target))
    async with database.transaction(all_collections=True) as connection:  # calls a function that no dump contains
        assert (await connection.execute(text("SELECT count(*) FROM template"))).scalar_one() > 0
    await database.close()


async def test_a_backup_of_an_older_release_replaces_a_newer_schema(
    empty_database: str, target: str, tmp_path: Path
) -> None:
    """The newer schema has tables and foreign keys that the backup lacks. Tables of others are not changed."""
    schema.upgrade(empty_database, "0005")
    backup.backup(empty_database, tmp_path / "old.dump")
    schema.upgrade(target)
    with psycopg.connect(libpq(target), autocommit=True) as connection:
        connection.execute("CREATE TABLE unrelated AS SELECT 1 AS x")
    backup.restore(target, tmp_path / "old.dump", replace=True)
    with psycopg.connect(libpq(target)) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == ("0005",)
        assert connection.execute("SELECT x FROM unrelated").fetchone() == (1,)
    schema.upgrade(target)


async def test_a_backup_of_a_later_release_is_refused(filled: str, tmp_path: Path) -> None:
    with psycopg.connect(libpq(filled), autocommit=True) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'later'")
    backup.backup(filled, tmp_path / "later.dump")
    before = content(filled)
    with pytest.raises(StartupError, match="later release"):
        backup.restore(filled, tmp_path / "later.dump", replace=True)
    assert content(filled) == before
