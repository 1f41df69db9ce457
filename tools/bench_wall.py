"""What the second wall costs: the same searches as the owner of the tables and as the service's own account.

    python -m tools.bench_wall --people 100000

Searches of one collection, with and without filters of different width, one after another on one connection; each pair
of times is taken in turns.
"""

import asyncio
import json
import statistics
import time
import uuid
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from sqlalchemy import text

from service.embedded_postgres.lease import EmbeddedPostgres
from service.gallery.index import hnsw
from service.gallery.people import collections
from service.gallery.search.filters import condition_of
from service.gallery.search.search import nearest
from service.gallery.storage import row_security, schema
from service.gallery.storage.database import Database
from tools.bench_gallery import MODEL, load, make
from tools.folders import database_folder

FILTERS: dict[str, dict[str, Any] | None] = {
    "none": None,
    "1 of 1,000, by equality": {"room": 7},
    "1 of 50, by equality": {"team": 7},
    "1 of 2, by range": {"team": {"$lt": 25}},
}
ROUNDS = 40
METADATA = """
    UPDATE identity SET metadata = jsonb_build_object('team', number % 50, 'room', number % 1000)
    FROM (SELECT id AS numbered, CAST(CAST('x' || right(CAST(id AS text), 6) AS bit(24)) AS int) AS number
        FROM identity)
    WHERE numbered = id
"""


async def measure(url: str, people: int, dim: int) -> list[tuple[str, float, float]]:
    """For each filter the median milliseconds as owner and behind the wall."""
    owner, walled = Database(url, pool_size=1), Database(row_security.app_role_url(url), pool_size=1)
    gallery = make(people, dim, ROUNDS, 0)
    async with owner.transaction() as connection:
        await collections.add_model(connection, MODEL, dim, "0" * 64)
        collection = await collections.create(connection, "everybody", MODEL)
    ids = [uuid.UUID(int=number + 1) for number in range(people)]
    await asyncio.to_thread(load, url, collection, ids, gallery.people, "loading")
    async with owner.autocommit() as plain:
        await plain.execute(text(METADATA))
        await plain.execute(text("VACUUM ANALYZE"))
    await hnsw.maintain(owner)
    rows = []
    for name, asked in FILTERS.items():
        among = None if asked is None else condition_of(asked)
        times: dict[Database, list[float]] = {owner: [], walled: []}
        for probe in gallery.probes:
            for database, taken in times.items():
                started = time.perf_counter()
                async with database.transaction(collection_id=collection.id) as connection:
                    await nearest(connection, collection.id, MODEL, probe, 5, among)
                taken.append(1000 * (time.perf_counter() - started))
        rows.append((name, statistics.median(times[owner]), statistics.median(times[walled])))
    await owner.close()
    await walled.close()
    return rows


def main(
    people: Annotated[int, typer.Option(help="In one collection.")] = 100_000,
    dim: Annotated[int, typer.Option(help="Length of an embedding.")] = 128,
    output: Annotated[Path | None, typer.Option(help="JSON with the same figures.")] = None,
) -> None:
    """Search as owner and as registry_app, in turns."""
    with database_folder() as folder, EmbeddedPostgres(folder / "postgres") as url:
        schema.upgrade(url)
        rows = asyncio.run(measure(url, people, dim))
    table = Table("filter", "owner, ms", "behind the wall, ms", "ratio", title=f"{people:,} people, {dim} dimensions")
    for name, owner, walled in rows:
        table.add_row(name, f"{owner:.1f}", f"{walled:.1f}", f"{walled / owner:.2f}")
    Console().print(table)
    if output is not None:
        output.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
