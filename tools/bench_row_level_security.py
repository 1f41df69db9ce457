"""`python -m tools.bench_row_level_security`: measures the cost of row-level security.

    python -m tools.bench_row_level_security --people 100000

Runs the same searches as the owner of the tables, to whom no policy applies, and as the service's role. The searches
run in one collection, without a filter and with filters of different selectivity, one after another on one connection;
the two roles alternate per search.
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
from rich.progress import track
from rich.table import Table
from sqlalchemy import ColumnElement, text

from service.embedded_postgres.lease import EmbeddedPostgres
from service.gallery.people import collections
from service.gallery.people.collections import Collection
from service.gallery.search.filters import condition_of
from service.gallery.search.nearest import SearchOptions, nearest
from service.gallery.storage import row_security, schema
from service.gallery.storage.database import Database
from tools.bulk_load import MODEL, copy_people
from tools.folders import database_folder
from tools.synthetic_gallery import Floats, make_gallery

FILTERS: dict[str, dict[str, Any] | None] = {
    "none": None,
    "1 of 1,000, by equality": {"room": 7},
    "1 of 50, by equality": {"team": 7},
    "1 of 2, by range": {"team": {"$lt": 25}},
}
"""Metadata filters by the name that the table shows."""
SEARCHES = 40
TOP_K = 5
METADATA = """
    UPDATE identity SET metadata = jsonb_build_object('team', number % 50, 'room', number % 1000)
    FROM (SELECT id AS numbered, CAST(CAST('x' || right(CAST(id AS text), 6) AS bit(24)) AS int) AS number
        FROM identity)
    WHERE numbered = id
"""


async def measure(url: str, people: int, dim: int) -> list[tuple[str, float, float]]:
    """Returns for each filter the median milliseconds of a search as owner and as the service's role."""
    gallery = make_gallery(people, dim, SEARCHES, seed=0)
    owner, restricted = Database(url, pool_size=1), Database(row_security.app_role_url(url), pool_size=1)
    collection = await _load(owner, url, gallery.people)
    rows = []
    for name, metadata_filter in track(FILTERS.items(), description="filters", transient=True):
        condition = None if metadata_filter is None else condition_of(metadata_filter)
        times: dict[Database, list[float]] = {owner: [], restricted: []}
        for probe in gallery.probes:
            for database, own in times.items():
                own.append(await _search_ms(database, collection, probe, condition))
        rows.append((name, statistics.median(times[owner]), statistics.median(times[restricted])))
    await owner.close()
    await restricted.close()
    return rows


async def _load(owner: Database, url: str, people: Floats) -> Collection:
    """Loads (N, dim) embeddings into a new collection, with the metadata that `FILTERS` refer to."""
    async with owner.transaction() as connection:
        await collections.add_model(connection, MODEL, people.shape[1], "0" * 64)
        collection = await collections.create(connection, "everybody", MODEL)
    ids = [uuid.UUID(int=number + 1) for number in range(len(people))]
    await asyncio.to_thread(copy_people, url, collection, ids, people, "loading")
    async with owner.autocommit() as connection:
        await connection.execute(text(METADATA))
        await connection.execute(text("VACUUM ANALYZE"))
    return collection


async def _search_ms(
    database: Database, collection: Collection, probe: Floats, condition: ColumnElement[bool] | None
) -> float:
    started = time.perf_counter()
    async with database.transaction(collection_id=collection.id) as connection:
        await nearest(connection, collection.id, MODEL, [probe], SearchOptions(TOP_K), condition)
    return 1000 * (time.perf_counter() - started)


def main(
    people: Annotated[int, typer.Option(help="Number of identities in the collection.")] = 100_000,
    dim: Annotated[int, typer.Option(help="Dimensions of an embedding.")] = 128,
    output: Annotated[Path | None, typer.Option(help="JSON file for the measurements.")] = None,
) -> None:
    """Print the time of a search as the owner of the tables and as the service's role."""
    with database_folder() as folder, EmbeddedPostgres(folder / "postgres") as url:
        schema.upgrade(url)
        rows = asyncio.run(measure(url, people, dim))
    table = Table(
        "filter", "owner, ms", "row-level security, ms", "ratio", title=f"{people:,} people, {dim} dimensions"
    )
    for name, owner, restricted in rows:
        table.add_row(name, f"{owner:.1f}", f"{restricted:.1f}", f"{restricted / owner:.2f}")
    Console().print(table)
    if output is not None:
        output.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
