"""`python -m tools.bench_migration`: measures schema migrations on a gallery of the first release.

    python -m tools.bench_migration --people 100000

Fills a temporary PostgreSQL at the first revision and measures every migration while a client enrols identities. Then
it measures a backup and its restore.
"""

import statistics
import threading
import time
from pathlib import Path
from typing import Annotated

import psycopg
import typer
from alembic.script import ScriptDirectory
from rich.progress import track

from service.embedded_postgres.lease import EmbeddedPostgres
from service.gallery.maintenance import backup
from service.gallery.storage import schema
from tools.folders import database_folder

DIM = 128
FILL = (
    "INSERT INTO model VALUES ('bench', {dim}, 'none')",
    "INSERT INTO collection (id, name, model_id) VALUES (gen_random_uuid(), 'bench', 'bench')",
    "INSERT INTO identity (collection_id, id, external_id, label) "
    "SELECT id, gen_random_uuid(), 'p' || n, 'person ' || n FROM collection, generate_series(1, {people}) n",
    "CREATE TEMP TABLE vector_of AS SELECT collection_id, id, "
    "(SELECT array_agg(random() - 0.5) FROM generate_series(1, {dim}) WHERE external_id <> '')::vector v "
    "FROM identity",
    "INSERT INTO template (collection_id, identity_id, model_id, dim, embedding, id, source_sha256, box, "
    "detection_score, quality) "
    "SELECT collection_id, id, 'bench', {dim}, v, gen_random_uuid(), sha256(id::text::bytea), "
    "'{{0,0,1,1}}', 0.9, 0.5 FROM vector_of",
    "INSERT INTO centroid (collection_id, identity_id, model_id, dim, embedding, template_count) "
    "SELECT collection_id, id, 'bench', {dim}, v, 1 FROM vector_of",
)
ENROL = (
    "INSERT INTO identity (collection_id, id, external_id, label) "
    "SELECT id, gen_random_uuid(), gen_random_uuid()::text, 'concurrent' FROM collection"
)


def main(
    people: Annotated[
        int, typer.Option(help="Number of identities, with one template and one centroid each.")
    ] = 100_000,
) -> None:
    """Measure each migration, a backup and a restore of a gallery."""
    with database_folder() as folder, EmbeddedPostgres(folder / "postgres") as url:
        schema.upgrade(url, "0001")
        libpq_url = url.replace("postgresql+psycopg", "postgresql")
        _fill(libpq_url, people)
        for revision in _revisions():
            seconds, waits = _migrate(url, revision, libpq_url)
            longest, median = max(waits, default=0.0), statistics.median(waits or [0.0])
            typer.echo(
                f"{revision}: {seconds:.2f} s; {len(waits)} concurrent enrolments, median {median * 1000:.0f} ms, "
                f"longest {longest * 1000:.0f} ms"
            )
        _backup_and_restore(url, libpq_url, folder)


def _fill(libpq_url: str, people: int) -> None:
    with psycopg.connect(libpq_url, autocommit=True) as connection:
        for statement in track(FILL, description="filling the gallery", transient=True):
            connection.execute(statement.format(people=people, dim=DIM))
        connection.execute("VACUUM ANALYZE")
        size = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    typer.echo(f"{people:,} people, {(size or [0])[0] / 2**20:,.0f} MiB")


def _backup_and_restore(url: str, libpq_url: str, folder: Path) -> None:
    """Measures a backup, and its restore into another database."""
    started = time.perf_counter()
    size = backup.backup(url, folder / "bench.dump")
    typer.echo(f"backup: {time.perf_counter() - started:.1f} s, {size / 2**20:,.0f} MiB")
    with psycopg.connect(libpq_url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE restored")
    started = time.perf_counter()
    backup.restore(url.replace("/registry?", "/restored?"), folder / "bench.dump")
    typer.echo(f"restore: {time.perf_counter() - started:.1f} s")


def _revisions() -> list[str]:
    """Returns all revisions after the first one, in the order in which they are applied."""
    scripts = ScriptDirectory.from_config(schema.alembic_config(""))
    return [script.revision for script in reversed(list(scripts.walk_revisions("0001", "head")))][1:]


def _migrate(url: str, revision: str, libpq_url: str) -> tuple[float, list[float]]:
    """Applies one migration; returns its seconds and the seconds of each concurrent enrolment."""
    waits, ended = list[float](), threading.Event()

    def enrol() -> None:
        with psycopg.connect(libpq_url, autocommit=True) as connection:
            while not ended.is_set():
                started = time.perf_counter()
                connection.execute(ENROL)
                waits.append(time.perf_counter() - started)
                time.sleep(0.005)

    client = threading.Thread(target=enrol)
    client.start()
    started = time.perf_counter()
    schema.upgrade(url, revision)
    seconds = time.perf_counter() - started
    ended.set()
    client.join()
    return seconds, waits


if __name__ == "__main__":
    typer.run(main)
