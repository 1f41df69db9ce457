"""Migrations of the schema and the checks of its compatibility."""

import asyncio
import logging
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, text

from service.errors import StartupError
from service.gallery.storage import schema
from service.gallery.storage.database import Database
from service.gallery.storage.tables import metadata
from tests.databases import libpq

pytestmark = pytest.mark.anyio


def tables(url: str) -> set[str]:
    engine = create_engine(url)
    with engine.connect() as connection:
        names = connection.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")).scalars().all()
    engine.dispose()
    return set(names)


def test_upgrade_downgrade_and_upgrade_again(empty_database: str) -> None:
    schema.upgrade(empty_database)
    assert tables(empty_database) == {*metadata.tables, "alembic_version"}
    command.downgrade(schema.alembic_config(empty_database), "base")
    assert tables(empty_database) == {"alembic_version"}
    schema.upgrade(empty_database)
    assert tables(empty_database) == {*metadata.tables, "alembic_version"}


def test_names_of_an_older_release_are_converted_and_collisions_stay(empty_database: str) -> None:
    schema.upgrade(empty_database, "0030")
    composed, decomposed = "Jos\u00e9", "Jose\u0301"
    names = [composed, decomposed, f" {decomposed}x", "plain"]  # the first two are two people
    with psycopg.connect(libpq(empty_database), autocommit=True) as connection:
        connection.execute("INSERT INTO model VALUES ('m', 1, '')")
        connection.execute("INSERT INTO collection (id, name, model_id) VALUES (gen_random_uuid(), 'c', 'm')")
        insertion = (
            "INSERT INTO identity (collection_id, id, external_id, label) SELECT id, gen_random_uuid(), %s, 'x' "
        )
        for name in names:
            connection.execute(insertion + "FROM collection", [name])
        schema.upgrade(empty_database)
        query = "SELECT external_id, external_id_sent FROM identity ORDER BY created_at"
        rows = connection.execute(query).fetchall()
        assert rows == [(composed, None), (decomposed, None), (f"{composed}x", f" {decomposed}x"), ("plain", None)]
        command.downgrade(schema.alembic_config(empty_database), "0030")
        stored = connection.execute("SELECT external_id FROM identity ORDER BY created_at").fetchall()
    assert [name for (name,) in stored] == names


def test_no_migration_deadlocks_with_requests(empty_database: str) -> None:
    """Requests lock collection and identity in either order, so a migration must lock one table at a time."""
    schema.upgrade(empty_database, "0001")
    insertion = "INSERT INTO identity (collection_id, id, external_id, label) SELECT id, gen_random_uuid(), "
    insertion += "gen_random_uuid()::text, 'x' FROM collection"
    orders = ([insertion], ["SELECT id FROM collection", "SELECT pg_sleep(0.002)", "UPDATE identity SET label = 'y'"])
    with psycopg.connect(libpq(empty_database), autocommit=True) as connection:
        connection.execute("INSERT INTO model VALUES ('m', 1, '')")
        connection.execute("INSERT INTO collection (id, name, model_id) VALUES (gen_random_uuid(), 'c', 'm')")
    stopped = threading.Event()

    def use(statements: list[str]) -> int:
        done = 0
        with psycopg.connect(libpq(empty_database)) as connection:
            while not stopped.is_set():
                for statement in statements:
                    connection.execute(statement)  # type: ignore[arg-type]
                connection.commit()
                done += 1
        return done

    with ThreadPoolExecutor(4) as pool:
        clients = [pool.submit(use, list(statements)) for statements in (*orders, orders[0])]
        try:
            schema.upgrade(empty_database)
        finally:
            stopped.set()
        assert min(client.result() for client in clients) > 0


def test_processes_that_migrate_concurrently_wait_for_each_other(empty_database: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        from subprocess import run
        from sys import executable

        code = "import sys; from service.gallery.storage import schema; schema.upgrade(sys.argv[1])"
        results = list(
            pool.map(lambda _: run([executable, "-c", code, empty_database], capture_output=True, text=True), range(4))
        )
    assert [result.returncode for result in results] == [0] * 4, results[0].stderr
    assert "template" in tables(empty_database)


def test_models_and_migrations_agree(postgres_url: str) -> None:
    engine = create_engine(postgres_url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_every_key_begins_with_collection_id(postgres_url: str) -> None:
    for name in ("identity", "template", "centroid"):
        table = metadata.tables[name]
        assert next(iter(table.primary_key)).name == "collection_id"
        for constraint in table.constraints:
            if constraint.__class__.__name__ == "UniqueConstraint":
                assert next(iter(constraint.columns)).name == "collection_id"


def test_embeddings_are_float32_and_not_stored_out_of_line(postgres_url: str) -> None:
    engine = create_engine(postgres_url)
    query = """SELECT attrelid::regclass::text, format_type(atttypid, atttypmod), attstorage FROM pg_attribute
               WHERE attname = 'embedding' AND attrelid IN ('template'::regclass, 'centroid'::regclass)"""
    with engine.connect() as connection:
        rows = {tuple(row) for row in connection.execute(text(query))}
    engine.dispose()
    assert rows == {("template", "vector", "m"), ("centroid", "vector", "m")}


async def test_a_database_without_a_schema_is_reported(empty_database: str) -> None:
    database = Database(empty_database)
    async with database.transaction() as connection:
        assert "alembic upgrade head" in (await schema.schema_problem(connection, schema.this_release()) or "")
        with pytest.raises(StartupError, match="has no extension pgvector"):
            await schema.require_pgvector(connection)
    await asyncio.to_thread(schema.upgrade, empty_database)
    async with database.transaction() as connection:
        assert await schema.schema_problem(connection, schema.this_release()) is None
        newer = schema.Release("9999", schema.this_release().known | {"9999"})
        assert "needs 9999" in (await schema.schema_problem(connection, newer) or "")
        await schema.require_pgvector(connection)
    await database.close()


@pytest.mark.parametrize("version", ["0.5.1", "0.7.4", None])
def test_an_old_pgvector_is_refused(version: str | None) -> None:
    with pytest.raises(StartupError, match="pgvector"):
        schema.check_pgvector_version(version)


@pytest.mark.parametrize(("version", "warned"), [("0.8.0", True), ("0.8.3", True), ("0.8.4", False), ("0.9.0", False)])
def test_a_pgvector_with_known_defects_is_logged(version: str, warned: bool, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        schema.check_pgvector_version(version)
    assert ("corrupt indexes" in caplog.text) is warned


def test_alembic_without_a_url_migrates_the_embedded_server(data_folder: Path) -> None:
    import os
    import subprocess
    import sys

    environment = os.environ | {"REGISTRY_DATA_DIR": str(data_folder)}
    repository = Path(__file__).parents[2]
    alembic = shutil.which("alembic", path=str(Path(sys.executable).parent))
    assert alembic
    for arguments in (["upgrade", "head"], ["check"], ["downgrade", "base"]):
        result = subprocess.run([alembic, *arguments], env=environment, cwd=repository, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr


async def test_a_release_is_compatible_with_a_later_schema_that_serves_it(empty_database: str) -> None:
    await asyncio.to_thread(schema.upgrade, empty_database, "0003")
    known = frozenset({"0001", "0002", "0003"})
    older = schema.Release("0003", known)
    database = Database(empty_database)
    async with database.transaction() as connection:
        assert await schema.schema_problem(connection, older) is None
        assert "run `alembic upgrade head`" in (await schema.schema_problem(connection, schema.this_release()) or "")
    await asyncio.to_thread(schema.upgrade, empty_database)
    async with database.transaction() as connection:
        assert await schema.schema_problem(connection, older) is None
        await connection.execute(text("UPDATE schema_serves SET from_revision = '0004'"))
        assert "run the newer release" in (await schema.schema_problem(connection, older) or "")
        assert await schema.schema_problem(connection, schema.this_release()) is None
    await database.close()


def test_an_interrupted_index_build_is_repeated(empty_database: str) -> None:
    schema.upgrade(empty_database, "0003")
    name = "ix_identity_collection_id_created_at_id"
    with psycopg.connect(libpq(empty_database), autocommit=True) as connection:
        connection.execute(f"CREATE INDEX {name} ON identity (collection_id, created_at, id)")
        connection.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = to_regclass(%s)", [name])
        schema.upgrade(empty_database)
        valid = connection.execute("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)", [name])
        assert valid.fetchone() == (True,)


def test_a_migration_retries_while_a_table_is_in_use(empty_database: str, caplog: pytest.LogCaptureFixture) -> None:
    """A transaction reads `collection` for longer than the lock timeout of the migration."""
    schema.upgrade(empty_database, "0004")
    with psycopg.connect(libpq(empty_database)) as reader, ThreadPoolExecutor(1) as pool:
        reader.execute("SELECT count(*) FROM collection")
        migration = pool.submit(schema.upgrade, empty_database)
        with pytest.raises(TimeoutError):
            migration.result(timeout=3.5)
        reader.commit()
        migration.result(timeout=20)
    assert "idempotency" in tables(empty_database)


def test_offline_mode_prints_the_sql(capsys: pytest.CaptureFixture[str]) -> None:
    command.upgrade(schema.alembic_config("postgresql+psycopg://"), "head", sql=True)
    output = capsys.readouterr().out
    for statement in (
        "CREATE TABLE procrastinate_jobs",
        "CREATE TABLE job_row",
        "CREATE POLICY one_collection ON identity",
    ):
        assert statement in output
