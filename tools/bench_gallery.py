"""`python -m tools.bench_gallery`: measures searches of large galleries beside numpy and FAISS, on the same vectors.

    python -m tools.bench_gallery                              # 100,000 people, 100 collections of 1,000: 3 minutes
    python -m tools.bench_gallery --people 1000000 --collections 1000     # half an hour on two cores, 12 GB of memory

The vectors are synthetic, with the covariance of face embeddings, and reproducible. Times are those of searches as the
service's role with database and rerank, without HTTP and inference.
"""

import asyncio
import json
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer
from rich.console import Console
from rich.progress import track
from sqlalchemy import text

from service.embedded_postgres.lease import EmbeddedPostgres
from service.gallery.index.memory_indexes import MemoryIndexes
from service.gallery.people import collections
from service.gallery.people.collections import Collection
from service.gallery.storage import row_security, schema
from service.gallery.storage.database import Database
from tools.bulk_load import MODEL, copy_people
from tools.folders import database_folder
from tools.gallery_searches import CLIENTS, SHARES, GallerySearches
from tools.peer_search import exact, faiss_hnsw
from tools.search_figures import TOP_K, SearchFigures, Truth, figures_table
from tools.synthetic_gallery import Gallery, make_gallery

IN_DATABASE = 50
"""Searches without an index in memory, which are slow."""
_NUMBER = "('x' || right(id::text, 12))::bit(48)::bigint"  # the last digits of an id are the number of the person
_SHARES = " || ',' || ".join(f"""'"one_of_{share}" ' || ':' || ({_NUMBER} % {share})::text""" for share in SHARES)
METADATA = f"UPDATE identity SET metadata = ('{{' || {_SHARES} || '}}')::jsonb"  # noqa: S608 - constants of this module


async def one_collection(url: str, gallery: Gallery, truth: Truth, say: Callable[[str], None]) -> list[SearchFigures]:
    """Measures one collection with all people: in the database, and with an index in memory."""
    owner, database = Database(url), Database(row_security.app_role_url(url), pool_size=CLIENTS)
    async with owner.transaction() as connection:
        collection = await collections.create(connection, "everybody", MODEL)
    ids = [uuid.UUID(int=(int(high) << 64) + row) for row, high in enumerate(_random_bits(len(gallery.people)))]
    load_s = await asyncio.to_thread(copy_people, url, collection, ids, gallery.people, "loading by COPY")
    async with owner.autocommit() as connection:
        await connection.execute(text(METADATA))
    await _vacuum(owner)
    database_mb = await _value(owner, "SELECT pg_database_size(current_database())") / 1e6
    say(f"loaded {len(ids) / load_s:,.0f} people/s, {database_mb:,.0f} MB in the database")
    in_database = GallerySearches(database, MemoryIndexes(database, 0), gallery, ids, lambda _: collection)
    first, plan = await in_database.figures("registry, in the database", truth, IN_DATABASE)
    indexes = MemoryIndexes(database, 2**40)
    started = time.perf_counter()
    await indexes.load(collection.id, MODEL)
    index_s = time.perf_counter() - started
    index = indexes.find(collection.id, MODEL)
    assert index is not None
    bench = GallerySearches(database, indexes, gallery, ids, lambda _: collection)
    second, memory_plan = await bench.figures("registry, index in memory", truth, len(gallery.probes))
    second = replace(second, build_s=index_s, size_mb=index.size / 1e6)
    say(f"plans: {plan}, {memory_plan}; index of {index.size / 1e6:,.0f} MB loaded in {index_s:.1f} s")
    refreshes = asyncio.create_task(indexes.run())
    say(await bench.concurrent())
    say(await bench.several_faces())
    for share in SHARES:
        say(await bench.filtered(share))
    refreshes.cancel()
    await owner.close()
    await database.close()
    return [first, second]


async def many_collections(url: str, gallery: Gallery, count: int, say: Callable[[str], None]) -> list[SearchFigures]:
    """Measures the same people in many collections. Each probe is searched in the collection of its mate."""
    owner, database = Database(url), Database(row_security.app_role_url(url))
    size = len(gallery.people) // count
    ids = [uuid.UUID(int=2**64 + number) for number in range(size * count)]
    tenants: list[Collection] = []
    for number in track(range(count), description="loading collections", transient=True):
        async with owner.transaction() as connection:
            tenants.append(await collections.create(connection, f"tenant-{number}", MODEL))
        part = slice(number * size, (number + 1) * size)
        await asyncio.to_thread(copy_people, url, tenants[-1], ids[part], gallery.people[part], "")
    await _vacuum(owner)
    loaded = gallery.mates < size * count
    part_of = Gallery(gallery.people[: size * count], gallery.mates[loaded], gallery.probes[loaded], gallery.strangers)
    numbers = part_of.mates // size
    nearest = []
    for number, probe in zip(numbers, part_of.probes, strict=True):
        similarity = part_of.people[number * size : (number + 1) * size] @ probe
        nearest.append(np.argsort(-similarity)[:TOP_K] + number * size)
    within = Gallery(part_of.people[:size], part_of.mates, part_of.probes, part_of.strangers)
    bench = GallerySearches(database, MemoryIndexes(database, 2**40), within, ids, lambda row: tenants[numbers[row]])
    name = f"registry: {count:,} collections of {size:,}"
    figures, plan = await bench.figures(name, Truth(np.array(nearest), threshold=-1), len(part_of.probes))
    say(f"{name}: plan {plan}")
    await owner.close()
    await database.close()
    return [figures]


def _random_bits(count: int) -> npt.NDArray[np.uint64]:
    return np.random.default_rng(1).integers(2**64, size=count, dtype=np.uint64)


async def _vacuum(database: Database) -> None:
    async with database.autocommit() as connection:
        await connection.execute(text("VACUUM ANALYZE"))


async def _value(database: Database, query: str) -> float:
    async with database.transaction() as connection:
        return float((await connection.execute(text(query))).scalar_one())


async def _measure_registry(
    url: str, gallery: Gallery, truth: Truth, count: int, say: Callable[[str], None]
) -> list[SearchFigures]:
    database = Database(url)
    async with database.transaction() as connection:
        await collections.add_model(connection, MODEL, gallery.people.shape[1], "0" * 64)
    await database.close()
    rows = await one_collection(url, gallery, truth, say)
    return rows + await many_collections(url, gallery, count, say)


def main(
    people: Annotated[int, typer.Option(help="Number of people, with one template each.")] = 100_000,
    dim: Annotated[int, typer.Option(help="Dimensions of an embedding.")] = 128,
    collections: Annotated[
        int, typer.Option(help="Number of collections into which the same people are loaded as well.")
    ] = 100,
    searches: Annotated[int, typer.Option(help="Number of probes with a mate, and of probes without one.")] = 500,
    seed: Annotated[int, typer.Option(help="Seed of the vectors.")] = 0,
    peer: Annotated[bool, typer.Option(help="Measure an HNSW graph of FAISS on the same vectors.")] = True,
    output: Annotated[Path | None, typer.Option(help="JSON file for the measurements.")] = None,
) -> None:
    """Load, index and search a synthetic gallery as the service's role, beside numpy and FAISS."""
    console = Console()
    gallery = make_gallery(people, dim, searches, seed)
    figures, truth = exact(gallery)
    rows: list[SearchFigures] = [figures]
    if peer:
        rows.append(faiss_hnsw(gallery, truth))
    with database_folder() as folder, EmbeddedPostgres(folder / "postgres") as url:
        schema.upgrade(url)
        rows += asyncio.run(_measure_registry(url, gallery, truth, collections, console.print))
    title = f"{people:,} people, {dim} dimensions, {searches} searches, threshold {truth.threshold:.3f}"
    console.print(figures_table(rows, title))
    if output is not None:
        output.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
