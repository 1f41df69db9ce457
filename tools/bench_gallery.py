"""How the gallery searches at size, next to numpy's exact search and FAISS' HNSW on the same vectors in the same run.

    python -m tools.bench_gallery                              # 100,000 people, 100 collections of 1,000: 3 minutes
    python -m tools.bench_gallery --people 1000000 --collections 1000     # an hour on two cores, 16 GB of memory

The vectors are synthetic: people in clusters (who look alike), a probe near its person, all seeded. Times are those of
one search after another on one connection, without inference. `pip install faiss-cpu` brings the peer.
"""

import asyncio
import json
import statistics
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import psycopg
import typer
from pgvector import Bit
from pgvector.psycopg import register_vector
from rich.console import Console
from rich.progress import track
from rich.table import Table
from sqlalchemy import text

from service.embedded_postgres.lease import EmbeddedPostgres
from service.gallery.index import hnsw
from service.gallery.index.codes import codes_of
from service.gallery.people import collections
from service.gallery.people.collections import Collection
from service.gallery.search.search import EF_SEARCH, nearest
from service.gallery.storage import row_security, schema
from service.gallery.storage.database import Database
from tools.folders import database_folder

Floats = npt.NDArray[np.float32]
MODEL = "synthetic"
TOP_K = 5
FPIR = 0.01
CHUNK = 20_000
WARM_UP = 100
"""Searches before those that count, so that what they need is in memory."""
ALIKE = 0.45
"""Share of a cluster's direction in its people: the nearest strangers come as near as look-alikes do."""
NEAR = 0.5
"""Share of the person in a probe: about the cosine of two photos of one person."""


@dataclass(frozen=True)
class Row:
    """One line of the table. Times in milliseconds, `build_s` without the loading."""

    what: str
    build_s: float
    size_mb: float
    p50_ms: float
    p95_ms: float
    rank_1: float
    fnir: float
    recall: float


@dataclass(frozen=True)
class Gallery:
    """`probes`: one near each of the people `mates`; `strangers`: near nobody's."""

    people: Floats
    mates: npt.NDArray[np.int64]
    probes: Floats
    strangers: Floats

    def first(self, count: int) -> "Gallery":
        """With so many probes."""
        return Gallery(self.people, self.mates[:count], self.probes[:count], self.strangers)


@dataclass(frozen=True)
class Truth:
    """What an exact search says: the nearest of each probe, and the score that lets `FPIR` of strangers through."""

    nearest: npt.NDArray[np.int64]
    threshold: float


def make(people: int, dim: int, searches: int, seed: int) -> Gallery:
    """A seeded gallery of people in clusters of a hundred."""
    random = np.random.default_rng(seed)
    clusters = max(1, people // 100)
    centres = unit(random.standard_normal((clusters, dim), dtype=np.float32))

    def faces(count: int) -> Floats:
        made = np.empty((count, dim), np.float32)
        for first in range(0, count, CHUNK):
            own = unit(random.standard_normal((min(CHUNK, count - first), dim), dtype=np.float32))
            shared = centres[random.integers(clusters, size=len(own))]
            made[first : first + len(own)] = unit(ALIKE * shared + np.sqrt(1 - ALIKE**2) * own)
        return made

    enrolled = faces(people)
    mates = random.choice(people, searches, replace=False)
    noise = unit(random.standard_normal((searches, dim), dtype=np.float32))
    probes = unit(NEAR * enrolled[mates] + np.sqrt(1 - NEAR**2) * noise)
    return Gallery(enrolled, mates, probes, faces(searches))


def unit(vectors: npt.NDArray[np.floating]) -> Floats:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def exact(gallery: Gallery) -> tuple[Row, Truth]:
    """Every probe with everybody, one matrix product a search."""
    times, found, scores = [], [], []
    for probe in gallery.probes:
        started = time.perf_counter()
        similarity = gallery.people @ probe
        best = np.argpartition(similarity, -TOP_K)[-TOP_K:]
        best = best[np.argsort(-similarity[best])]
        times.append(time.perf_counter() - started)
        found.append(best)
        scores.append(similarity[best])
    strangers = np.sort([float((gallery.people @ probe).max()) for probe in gallery.strangers])
    truth = Truth(np.array(found), float(np.quantile(strangers, 1 - FPIR)))
    size = gallery.people.nbytes / 1e6
    return _row("numpy, exact", 0, size, times, gallery, truth, np.array(found), np.array(scores)), truth


def faiss_hnsw(gallery: Gallery, truth: Truth) -> Row:
    """The peer, with the same graph parameters."""
    import faiss

    index = faiss.IndexHNSWFlat(gallery.people.shape[1], hnsw.M, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = hnsw.EF_CONSTRUCTION
    index.hnsw.efSearch = EF_SEARCH
    started = time.perf_counter()
    index.add(gallery.people)
    built = time.perf_counter() - started
    times, found, scores = [], [], []
    for probe in gallery.probes:
        started = time.perf_counter()
        score, best = index.search(probe[None], TOP_K)
        times.append(time.perf_counter() - started)
        found.append(best[0])
        scores.append(score[0])
    size = len(faiss.serialize_index(index)) / 1e6
    return _row("FAISS HNSW, in memory", built, size, times, gallery, truth, np.array(found), np.array(scores))


def _row(
    what: str, build_s: float, size_mb: float, times: list[float], gallery: Gallery, truth: Truth,
    found: npt.NDArray[np.int64], scores: Floats,
) -> Row:  # fmt: skip
    """`found`, `scores`: (searches, TOP_K), best first."""
    is_mate = found == gallery.mates[:, None]
    recall = statistics.fmean(
        len(set(ours) & set(best)) / TOP_K for ours, best in zip(found, truth.nearest, strict=True)
    )
    return Row(
        what, build_s, size_mb, 1000 * float(np.quantile(times, 0.5)), 1000 * float(np.quantile(times, 0.95)),
        float(is_mate[:, 0].mean()), 1 - float((is_mate & (scores >= truth.threshold)).any(axis=1).mean()), recall,
    )  # fmt: skip


def load(url: str, collection: Collection, ids: list[uuid.UUID], people: Floats, title: str) -> float:
    """COPY people with a template and a centroid each; the seconds that it took."""
    started = time.perf_counter()
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        register_vector(connection)
        dim = people.shape[1]
        for first in track(range(0, len(people), CHUNK), description=title, transient=True):
            part = list(zip(ids[first : first + CHUNK], people[first : first + CHUNK], strict=True))
            with connection.cursor() as cursor:
                _copy(cursor, "identity (collection_id, id, external_id, label)", ["uuid", "uuid", "text", "text"], (
                    (collection.id, one, str(one), "synthetic") for one, _ in part
                ))  # fmt: skip
                _copy(
                    cursor,
                    "template (collection_id, identity_id, model_id, dim, embedding, id, source_sha256, box, "
                    "detection_score)",
                    ["uuid", "uuid", "text", "int4", "vector", "uuid", "bytea", "float4[]", "float4"],
                    (
                        (collection.id, one, MODEL, dim, vector, one, one.bytes * 2, [0.0, 0.0, 1.0, 1.0], 1.0)
                        for one, vector in part
                    ),
                )
                _copy(
                    cursor,
                    "centroid (collection_id, identity_id, model_id, dim, embedding, template_count, code)",
                    ["uuid", "uuid", "text", "int4", "vector", "int4", "bit"],
                    (
                        (collection.id, one, MODEL, dim, vector, 1, Bit(code))
                        for (one, vector), code in zip(part, codes_of(people[first : first + CHUNK]), strict=True)
                    ),
                )
            connection.commit()
    return time.perf_counter() - started


def _copy(cursor: "psycopg.Cursor[tuple[object, ...]]", target: str, types: list[str], rows: Iterator[object]) -> None:
    with cursor.copy(f"COPY {target} FROM STDIN (FORMAT BINARY)") as copy:  # type: ignore[arg-type]
        copy.set_types(types)
        for row in rows:
            copy.write_row(row)  # type: ignore[arg-type]


async def searched(
    database: Database, where: Callable[[int], Collection], gallery: Gallery, ids: list[uuid.UUID]
) -> tuple[list[float], npt.NDArray[np.int64], Floats, str]:
    """Times, who was found and how near, and the plan, through the service's own search."""
    numbers = {one: number for number, one in enumerate(ids)}
    times: list[float] = []
    found = np.full((len(gallery.probes), TOP_K), -1, np.int64)
    scores = np.full((len(gallery.probes), TOP_K), -1, np.float32)
    plan = ""
    for row, probe in enumerate(gallery.probes):
        started = time.perf_counter()
        async with database.transaction(collection_id=where(row).id) as connection:
            result = await nearest(connection, where(row).id, MODEL, probe, TOP_K)
        times.append(time.perf_counter() - started)
        plan = result.plan
        for rank, candidate in enumerate(result.candidates):
            found[row, rank], scores[row, rank] = numbers[candidate.id], candidate.score
    return times, found, scores, plan


async def one_collection(url: str, gallery: Gallery, truth: Truth, memory_mb: int) -> list[tuple[Row, str]]:
    """Everybody in one collection, by codes, and then through an HNSW index."""
    database = Database(url)
    async with database.transaction() as connection:
        collection = await collections.create(connection, "everybody", MODEL)
    ids = [uuid.UUID(int=number + 1) for number in range(len(gallery.people))]
    loaded = await asyncio.to_thread(load, url, collection, ids, gallery.people, "loading by COPY")
    await _vacuum(database)
    by_codes, plan = await _measured(database, collection, ids, gallery, truth, "registry: codes", 0)
    size = await _size(database, "ix_centroid_coded")
    whole = await _value(database, "SELECT pg_database_size(current_database())") / 1e6
    words = (
        f"loaded in {loaded:.0f} s ({len(ids) / loaded:,.0f} people/s), {whole:,.0f} MB in the database, plan {plan}"
    )
    rows = [(replace(by_codes, size_mb=size), words)]
    if memory_mb:
        started = time.perf_counter()
        await hnsw.maintain(database, build_from=1, drop_below=0, memory_mb=memory_mb)
        built = time.perf_counter() - started
        await _vacuum(database)
        title = "registry: HNSW"
        by_graph, plan = await _measured(database, collection, ids, gallery, truth, title, built)
        size = await _size(database, hnsw.index_name(collection.id, MODEL))
        rows.append((replace(by_graph, size_mb=size), f"plan {plan}"))
    await database.close()
    return rows


async def _measured(
    database: Database, collection: Collection, ids: list[uuid.UUID], gallery: Gallery, truth: Truth, title: str,
    built: float,
) -> tuple[Row, str]:  # fmt: skip
    walled = Database(row_security.app_role_url(str(database.url)))
    await searched(walled, lambda _: collection, gallery.first(WARM_UP), ids)
    times, found, scores, plan = await searched(walled, lambda _: collection, gallery, ids)
    await walled.close()
    return _row(title, built, 0, times, gallery, truth, found, scores), plan


async def _vacuum(database: Database) -> None:
    async with database.autocommit() as plain:
        await plain.execute(text("VACUUM ANALYZE"))


async def _size(database: Database, index: str) -> float:
    return await _value(database, f"SELECT pg_relation_size('{index}')") / 1e6


async def _value(database: Database, query: str) -> float:
    async with database.transaction() as connection:
        return float((await connection.execute(text(query))).scalar_one())


async def many_collections(url: str, gallery: Gallery, count: int) -> list[tuple[Row, str]]:
    """The same people in many collections; every search is in its mate's."""
    database = Database(url)
    per = len(gallery.people) // count
    made: list[Collection] = []
    ids = [uuid.UUID(int=2**64 + number) for number in range(per * count)]
    started = time.perf_counter()
    for number in track(range(count), description="loading collections", transient=True):
        async with database.transaction() as connection:
            made.append(await collections.create(connection, f"tenant-{number}", MODEL))
        part = slice(number * per, (number + 1) * per)
        load(url, made[-1], ids[part], gallery.people[part], "")
    loaded = time.perf_counter() - started
    async with database.autocommit() as plain:
        await plain.execute(text("VACUUM ANALYZE"))
    inside = gallery.mates < per * count
    part_of = Gallery(gallery.people, gallery.mates[inside], gallery.probes[inside], gallery.strangers)
    tenants = part_of.mates // per
    best = [
        _nearest_within(part_of.people, tenant, per, probe)
        for tenant, probe in zip(tenants, part_of.probes, strict=True)
    ]
    walled = Database(row_security.app_role_url(str(database.url)))
    await searched(walled, lambda row: made[tenants[row]], part_of.first(WARM_UP), ids)
    times, found, scores, plan = await searched(walled, lambda row: made[tenants[row]], part_of, ids)
    for opened in (walled, database):
        await opened.close()
    row = _row(
        f"registry: {count:,} collections of {per:,}", 0, 0, times, part_of, Truth(np.array(best), -1), found, scores
    )
    foreign = int((found // per != tenants[:, None]).sum())
    words = f"loaded in {loaded:.0f} s, plan {plan}, {foreign} of {found.size:,} candidates from another collection"
    return [(row, words)]


def _nearest_within(people: Floats, tenant: int, per: int, probe: Floats) -> npt.NDArray[np.int64]:
    similarity = people[tenant * per : (tenant + 1) * per] @ probe
    return np.argsort(-similarity)[:TOP_K] + tenant * per


async def _prepare(url: str, dim: int) -> None:
    database = Database(url)
    async with database.transaction() as connection:
        await collections.add_model(connection, MODEL, dim, "0" * 64)
    await database.close()


def _run(act: Awaitable[list[tuple[Row, str]]]) -> list[tuple[Row, str]]:
    async def run() -> list[tuple[Row, str]]:
        return await act

    return asyncio.run(run())


def main(
    people: Annotated[int, typer.Option(help="People with one template each.")] = 100_000,
    dim: Annotated[int, typer.Option(help="Length of an embedding.")] = 512,
    collections: Annotated[int, typer.Option(help="Collections into which the same people are put as well.")] = 100,
    searches: Annotated[int, typer.Option(help="Probes with a mate, and as many of strangers.")] = 500,
    memory_mb: Annotated[
        int, typer.Option(help="For building an HNSW index; its graph should fit. 0: without that index.")
    ] = 4096,
    seed: Annotated[int, typer.Option(help="Of the vectors.")] = 0,
    peer: Annotated[bool, typer.Option(help="FAISS on the same vectors.")] = True,
    output: Annotated[Path | None, typer.Option(help="JSON with the same figures.")] = None,
) -> None:
    """Load, index and search a synthetic gallery as the service's account, beside numpy and FAISS."""
    console = Console()
    gallery = make(people, dim, searches, seed)
    rows, truth = _compared(gallery, console, peer)
    with database_folder() as folder, EmbeddedPostgres(folder / "postgres") as url:
        schema.upgrade(url)
        asyncio.run(_prepare(url, dim))
        for act in (one_collection(url, gallery, truth, memory_mb), many_collections(url, gallery, collections)):
            for row, words in _run(act):
                rows.append(row)
                console.print(f"{row.what}: {words}")
    console.print(
        _table(rows, f"{people:,} people, {dim} dimensions, {searches} searches, threshold {truth.threshold:.3f}")
    )
    if output is not None:
        output.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


def _compared(gallery: Gallery, console: Console, peer: bool) -> tuple[list[Row], Truth]:
    row, truth = exact(gallery)
    if not peer:
        return [row], truth
    try:
        return [row, faiss_hnsw(gallery, truth)], truth
    except ImportError:
        console.print("FAISS is not installed (pip install faiss-cpu); the table lacks it")
        return [row], truth


def _table(rows: list[Row], title: str) -> Table:
    table = Table("search", "build s", "index MB", "p50 ms", "p95 ms", "rank 1", "FNIR", f"recall@{TOP_K}", title=title)
    for row in rows:
        table.add_row(
            row.what, f"{row.build_s:.0f}", f"{row.size_mb:,.0f}", f"{row.p50_ms:.1f}", f"{row.p95_ms:.1f}",
            f"{row.rank_1:.3f}", f"{row.fnir:.3f}", f"{row.recall:.4f}",
        )  # fmt: skip
    return table


if __name__ == "__main__":
    typer.run(main)
