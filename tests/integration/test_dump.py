"""A backup brought into another database is the same registry."""

import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text

from service.errors import StartupError
from service.gallery.maintenance import backup
from service.gallery.maintenance.backup import TABLES
from service.gallery.people import collections
from service.gallery.storage import schema
from service.gallery.storage.database import Database
from tests.integration.test_gallery import enrol, unit

pytestmark = pytest.mark.anyio


def made(postgres_url: str, name: str) -> str:
    libpq = postgres_url.replace("postgresql+psycopg", "postgresql")
    with psycopg.connect(libpq, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        connection.execute(f"CREATE DATABASE {name}")
    return postgres_url.replace("/registry?", f"/{name}?")


def content(url: str) -> dict[str, tuple[int, str]]:
    """Of each table the number of rows and a digest of all of them, embeddings included."""
    found = {}
    with psycopg.connect(url.replace("postgresql+psycopg", "postgresql")) as connection:
        for table in TABLES:
            query = f"SELECT count(*), md5(coalesce(string_agg(t::text, '|' ORDER BY t::text), '')) FROM {table} t"
            found[table] = connection.execute(query).fetchone()  # type: ignore[arg-type]
    return found  # type: ignore[return-value]


@pytest.fixture
async def filled(postgres_url: str) -> str:
    import numpy as np

    url = made(postgres_url, "dumped")
    schema.upgrade(url)
    database = Database(url)
    async with database.transaction() as connection:
        await collections.add_model(connection, "tiny", 16, "0" * 64)
        collection = await collections.create(connection, "people", "tiny")
    for number in range(30):
        await enrol(database, collection, f"p{number}", unit(np.random.default_rng(number), 2))
    await database.close()
    return url


async def test_there_and_back(filled: str, postgres_url: str, tmp_path: Path) -> None:
    file = tmp_path / "backups" / "registry.dump"
    assert backup.backup(filled, file) == file.stat().st_size > 1000
    assert file.stat().st_mode & 0o077 == 0
    target = made(postgres_url, "restored")
    backup.restore(target, file)
    assert content(target) == content(filled)
    with pytest.raises(StartupError, match="holds a registry already"):
        backup.restore(target, file)
    with pytest.raises(StartupError, match="exists already"):
        backup.backup(filled, file)


async def test_a_dump_takes_the_place_of_what_is_there_or_changes_nothing(
    filled: str, postgres_url: str, tmp_path: Path
) -> None:
    file = tmp_path / "registry.dump"
    backup.backup(filled, file)
    before = content(filled)
    database = Database(filled)
    async with database.transaction() as connection:
        await connection.execute(text("DELETE FROM identity WHERE external_id < 'p2'"))
    await database.close()
    changed = content(filled)
    cut = tmp_path / "cut.dump"
    cut.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(StartupError, match=r"failed|no registry"):
        backup.restore(filled, cut, replace=True)
    assert content(filled) == changed != before
    backup.restore(filled, file, replace=True)
    assert content(filled) == before


async def test_a_failed_backup_leaves_no_file(postgres_url: str, tmp_path: Path) -> None:
    missing = postgres_url.replace("/registry?", "/nothing_here?")
    with pytest.raises((StartupError, psycopg.OperationalError)):
        backup.backup(missing, tmp_path / "x.dump")
    empty = made(postgres_url, "restored")
    with pytest.raises(StartupError, match="holds no registry"):
        backup.backup(empty, tmp_path / "x.dump")
    assert list(tmp_path.iterdir()) == []


async def test_the_command_line_does_the_same(filled: str, postgres_url: str, tmp_path: Path) -> None:
    def run(url: str, *command: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "service", "db", *command],
            env=os.environ | {"REGISTRY_DATABASE__URL": url},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    file = str(tmp_path / "registry.dump")
    assert "MB" in run(filled, "backup", file)
    target = made(postgres_url, "restored")
    assert "restored" in run(target, "restore", file)
    assert content(target) == content(filled)


async def test_a_dump_of_an_older_release_takes_a_newer_ones_place(postgres_url: str, tmp_path: Path) -> None:
    """A later schema has foreign keys that the older one's dump knows nothing of. What is not ours stays."""
    old, target = made(postgres_url, "dumped"), made(postgres_url, "restored")
    schema.upgrade(old, "0005")
    backup.backup(old, tmp_path / "old.dump")
    schema.upgrade(target)
    with psycopg.connect(target.replace("postgresql+psycopg", "postgresql"), autocommit=True) as connection:
        connection.execute("CREATE TABLE somebody_elses AS SELECT 1 AS x")
    backup.restore(target, tmp_path / "old.dump", replace=True)
    with psycopg.connect(target.replace("postgresql+psycopg", "postgresql")) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == ("0005",)
        assert connection.execute("SELECT x FROM somebody_elses").fetchone() == (1,)
    schema.upgrade(target)


async def test_a_dump_of_a_later_release_is_refused_untouched(filled: str, tmp_path: Path) -> None:
    with psycopg.connect(filled.replace("postgresql+psycopg", "postgresql"), autocommit=True) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'later'")
    backup.backup(filled, tmp_path / "later.dump")
    before = content(filled)
    with pytest.raises(StartupError, match="later release"):
        backup.restore(filled, tmp_path / "later.dump", replace=True)
    assert content(filled) == before
