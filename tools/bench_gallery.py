"""`python -m tools.bench_gallery`: measures searches of large galleries beside numpy and FAISS, on the same vectors.

    python -m tools.bench_gallery                              # 100,000 people, 100 collections of 1,000: 3 minutes
    python -m tools.bench_gallery --people 1000000 --collections 1000     # an hour on two cores, 16 GB of memory

The vectors are synthetic and reproducible. Times are those of one search after another on one connection as the
service's role, without inference. FAISS is measured if it is installed (`pip install faiss-cpu`).
"""

import asyncio
import json
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer
from rich.console import Console
from rich.progress import track
from sqlalchemy import text

from service.embedded_postgres.lease import EmbeddedPostgres
from service.gallery.index import hnsw
from service.gallery.people import collections
from service.gallery.people.collections import Collection
from service.gallery.search.nearest import SearchOptions, nearest
from service.gallery.storage import row_security, schema
from service.gallery.storage.database import Database
from tools.bulk_load import MODEL, copy_people
from tools.folders import database_folder
from tools.peer_search import exact, faiss_hnsw
from tools.search_figures import TOP_K, SearchFigures, SearchResults, Truth, figures_table, search_figures
from tools.synthetic_gallery import Floats, Gallery, make_gallery

WARM_UP = 100
"""Searches before the measured ones, which read tables and indexes into memory."""
Measured = list[tuple[SearchFigures, str]]
"""Figures with remarks about the load and the plan."""


async def one_collection(url: str, gallery: Gallery, truth: Truth, memory_mb: int) -> Measured:
    """Measures one collection with all people: by binary codes and, if `memory_mb` is not 0, by an HNSW index."""
    database = Database(url)
    async with database.transaction() as connection:
        collection = await collections.create(connection, "everybody", MODEL)
    ids = [uuid.UUID(int=number + 1) for number in range(len(gallery.people))]
    load_s = await asyncio.to_thread(copy_people, url, collection, ids, gallery.people, "loading by COPY")
    await _vacuum(database)
    results, plan = await _search(url, lambda _: collection, gallery, ids)
    figures = search_figures(
        "registry: codes", 0, await _index_mb(database, "ix_centroid_coded"), results, gallery, truth
    )
    database_mb = await _value(database, "SELECT pg_database_size(current_database())") / 1e6
    per_second = len(ids) / load_s
    remarks = (
        f"loaded in {load_s:.0f} s ({per_second:,.0f} people/s), {database_mb:,.0f} MB in the database, plan {plan}"
    )
    rows = [(figures, remarks)]
    if memory_mb:
        started = time.perf_counter()
        await hnsw.maintain(database, build_from=1, drop_below=0, memory_mb=memory_mb)
        build_s = time.perf_counter() - started
        await _vacuum(database)
        results, plan = await _search(url, lambda _: collection, gallery, ids)
        size_mb = await _index_mb(database, hnsw.index_name(collection.id, MODEL))
        figures = search_figures("registry: HNSW", build_s, size_mb, results, gallery, truth)
        rows.append((figures, f"plan {plan}"))
    await database.close()
    return rows


async def many_collections(url: str, gallery: Gallery, count: int) -> Measured:
    """Measures the same people in many collections. Each probe is searched in the collection of its mate."""
    database = Database(url)
    size = len(gallery.people) // count
    ids = [uuid.UUID(int=2**64 + number) for number in range(size * count)]
    started = time.perf_counter()
    tenants: list[Collection] = []
    for number in track(range(count), description="loading collections", transient=True):
        async with database.transaction() as connection:
            tenants.append(await collections.create(connection, f"tenant-{number}", MODEL))
        part = slice(number * size, (number + 1) * size)
        copy_people(url, tenants[-1], ids[part], gallery.people[part], title="")
    load_s = time.perf_counter() - started
    await _vacuum(database)
    await database.close()
    loaded = gallery.mates < size * count
    part_of = Gallery(gallery.people, gallery.mates[loaded], gallery.probes[loaded], gallery.strangers)
    numbers = part_of.mates // size
    nearest_rows = [
        _nearest_within(part_of.people, number, size, probe)
        for number, probe in zip(numbers, part_of.probes, strict=True)
    ]
    results, plan = await _search(url, lambda row: tenants[numbers[row]], part_of, ids)
    truth = Truth(np.array(nearest_rows), threshold=-1)
    figures = search_figures(f"registry: {count:,} collections of {size:,}", 0, 0, results, part_of, truth)
    foreign = int((results.candidates // size != numbers[:, None]).sum())
    candidates = f"{foreign} of {results.candidates.size:,} candidates from another collection"
    return [(figures, f"loaded in {load_s:.0f} s, plan {plan}, {candidates}")]


async def _search(
    url: str, collection_of: Callable[[int], Collection], gallery: Gallery, ids: Sequence[uuid.UUID]
) -> tuple[SearchResults, str]:
    """Searches every probe as the service's role, after a warm-up; returns the results and the last plan.

    Args:
        collection_of: returns the collection in which the probe of this row is searched.
    """
    database = Database(row_security.app_role_url(url))
    await _run_searches(database, collection_of, gallery.first(WARM_UP), ids)
    results = await _run_searches(database, collection_of, gallery, ids)
    await database.close()
    return results


async def _run_searches(
    database: Database, collection_of: Callable[[int], Collection], gallery: Gallery, ids: Sequence[uuid.UUID]
) -> tuple[SearchResults, str]:
    numbers = {identity_id: number for number, identity_id in enumerate(ids)}
    times: list[float] = []
    candidates = np.full((len(gallery.probes), TOP_K), -1, np.int64)
    scores = np.full((len(gallery.probes), TOP_K), -1, np.float32)
    plan = ""
    for row, probe in enumerate(track(gallery.probes, description="searching", transient=True)):
        collection = collection_of(row)
        started = time.perf_counter()
        async with database.transaction(collection_id=collection.id) as connection:
            [result] = await nearest(connection, collection.id, MODEL, [probe], SearchOptions(TOP_K))
        times.append(time.perf_counter() - started)
        plan = result.plan
        for rank, candidate in enumerate(result.candidates):
            candidates[row, rank], scores[row, rank] = numbers[candidate.id], candidate.score
    return SearchResults(times, candidates, scores), plan


def _nearest_within(people: Floats, number: int, size: int, probe: Floats) -> npt.NDArray[np.int64]:
    """Returns the rows of the nearest people within the collection of this number, best first."""
    similarity = people[number * size : (number + 1) * size] @ probe
    return np.argsort(-similarity)[:TOP_K] + number * size


async def _vacuum(database: Database) -> None:
    async with database.autocommit() as connection:
        await connection.execute(text("VACUUM ANALYZE"))


async def _index_mb(database: Database, index: str) -> float:
    return await _value(database, f"SELECT pg_relation_size('{index}')") / 1e6


async def _value(database: Database, query: str) -> float:
    async with database.transaction() as connection:
        return float((await connection.execute(text(query))).scalar_one())


async def _measure_registry(
    url: str, gallery: Gallery, truth: Truth, memory_mb: int, count: int, console: Console
) -> list[SearchFigures]:
    database = Database(url)
    async with database.transaction() as connection:
        await collections.add_model(connection, MODEL, gallery.people.shape[1], "0" * 64)
    await database.close()
    rows = await one_collection(url, gallery, truth, memory_mb)
    rows += await many_collections(url, gallery, count)
    for figures, remarks in rows:
        console.print(f"{figures.search}: {remarks}")
    return [figures for figures, _ in rows]


def _measure_peers(gallery: Gallery, console: Console, peer: bool) -> tuple[list[SearchFigures], Truth]:
    figures, truth = exact(gallery)
    if not peer:
        return [figures], truth
    try:
        return [figures, faiss_hnsw(gallery, truth)], truth
    except ImportError:
        console.print("FAISS is not measured, because it is not installed; install it with `pip install faiss-cpu`")
        return [figures], truth


def main(
    people: Annotated[int, typer.Option(help="Number of people, with one template each.")] = 100_000,
    dim: Annotated[int, typer.Option(help="Dimensions of an embedding.")] = 512,
    collections: Annotated[
        int, typer.Option(help="Number of collections into which the same people are loaded as well.")
    ] = 100,
    searches: Annotated[int, typer.Option(help="Number of probes with a mate, and of probes without one.")] = 500,
    memory_mb: Annotated[
        int,
        typer.Option(help="Memory in MB for the build of an HNSW index, which its graph should fit; 0: no index."),
    ] = 4096,
    seed: Annotated[int, typer.Option(help="Seed of the vectors.")] = 0,
    peer: Annotated[bool, typer.Option(help="Measure FAISS on the same vectors.")] = True,
    output: Annotated[Path | None, typer.Option(help="JSON file for the measurements.")] = None,
) -> None:
    """Load, index and search a synthetic gallery as the service's role, beside numpy and FAISS."""
    console = Console()
    gallery = make_gallery(people, dim, searches, seed)
    rows, truth = _measure_peers(gallery, console, peer)
    with database_folder() as folder, EmbeddedPostgres(folder / "postgres") as url:
        schema.upgrade(url)
        rows += asyncio.run(_measure_registry(url, gallery, truth, memory_mb, collections, console))
    title = f"{people:,} people, {dim} dimensions, {searches} searches, threshold {truth.threshold:.3f}"
    console.print(figures_table(rows, title))
    if output is not None:
        output.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
