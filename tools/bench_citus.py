"""`python -m tools.bench_citus URL`: measures a registry on one node of a Citus cluster, and distributed among all.

    python -m tools.bench_citus postgresql+psycopg://postgres@coordinator:5432/database
    python -m tools.bench_citus … --people 1000000 --collections 1000       # 20 minutes, 12 GB of memory

Both forms are measured one after the other in new databases of the same servers, without HTTP and inference. The
figures of a cluster whose nodes share a machine show what the distribution costs, and not what more machines gain.
"""

import asyncio
import itertools
import statistics
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from sqlalchemy import text

from service.gallery.access.audit_entries import SERVICE, Action, Event
from service.gallery.access.audit_trail import AuditTrail
from service.gallery.enrolment import rows
from service.gallery.enrolment.records import NewTemplate
from service.gallery.people import collections, merge_split_move
from service.gallery.people.collections import Collection
from service.gallery.storage import row_security, schema
from service.gallery.storage.database import Database
from tools import citus
from tools.bench_gallery import many_collections, one_collection
from tools.bulk_load import MODEL
from tools.peer_search import exact
from tools.search_figures import SearchFigures, Truth
from tools.synthetic_gallery import Floats, Gallery, make_gallery

TENANTS, CLIENTS, REGISTRATIONS, MOVES = 16, 8, 2_000, 200
AUDIT = AuditTrail(b"the audit key of the benchmark, long enough")
BOX = (0.0, 0.0, 1.0, 1.0)
PORT_OF = """
    SELECT nodeport FROM pg_dist_shard_placement
    WHERE shardid = get_shard_id_for_distribution_column('identity', CAST(:id AS uuid))
"""


@dataclass(frozen=True)
class Figures:
    """Milliseconds of searches and transactions, and registrations per second, of one form.

    Attributes:
        move_ms: of a person between two collections of one node.
        far_move_ms: of a person between collections of two nodes; None: there is one node.
    """

    small: tuple[float, float]
    in_database: tuple[float, float]
    in_memory: tuple[float, float]
    registrations: float
    move_ms: float
    far_move_ms: float | None


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Database]:
    database = Database(url, pool_size=CLIENTS)
    yield database
    await database.close()


async def register(database: Database, collection: Collection, name: str, embedding: Floats) -> uuid.UUID:
    """Stores one template of a new identity with an entry of the audit trail, as a registration does."""
    async with database.transaction() as connection:
        current = await collections.get(connection, collection.name, lock="share")
        created = await rows.lock_or_create(connection, current.id, name)
        assert created is not None
        identity_id: uuid.UUID = created[0].id
        new = NewTemplate(MODEL, uuid.uuid4().bytes * 2, embedding, BOX, 0.9, 0.5)
        await rows.add_templates(connection, current.id, identity_id, [new])
        await AUDIT.append(connection, current.id, [Event(Action.ENROL, SERVICE, identity_id)])
    return identity_id


async def registrations_per_second(database: Database, tenants: list[Collection], people: Floats) -> float:
    """Measures concurrent registrations in all tenants."""
    numbers = iter(range(REGISTRATIONS))

    async def client() -> None:
        for number in numbers:
            await register(database, tenants[number % len(tenants)], f"r{number}", people[number % len(people)])

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return REGISTRATIONS / (time.perf_counter() - started)


async def move_ms(database: Database, source: Collection, target: Collection, people: Floats) -> float:
    """Returns the median time of moving a person with one template from one collection to another."""
    times = []
    for number in range(MOVES):
        moved = await register(database, source, f"m{uuid.uuid4().hex}", people[number % len(people)])
        started = time.perf_counter()
        async with database.transaction(collection_id=source.id) as connection:
            await collections.get_by_id(connection, target.id)
            await merge_split_move.move(connection, source, target, moved)
        times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times)


async def measure(url: str, is_distributed: bool, gallery: Gallery, truth: Truth, count: int, say: Console) -> Figures:
    async with connected(url) as owner:
        async with owner.transaction() as connection:
            await collections.add_model(connection, MODEL, gallery.people.shape[1], "0" * 64)
            tenants = [await collections.create(connection, f"r{number}", MODEL) for number in range(TENANTS)]
        ports = [await _port(owner, tenant) if is_distributed else 0 for tenant in tenants]
    people = gallery.people[:REGISTRATIONS]
    async with connected(row_security.app_role_url(url)) as database:
        registrations = await registrations_per_second(database, tenants, people)
        near, far = _pairs(tenants, ports)
        near_ms = await move_ms(database, *near, people)
        far_ms = None if far is None else await move_ms(database, *far, people)
    [small] = await many_collections(url, gallery, count, say.print)
    in_database, in_memory = await one_collection(url, gallery, truth, say.print)
    return Figures(_times(small), _times(in_database), _times(in_memory), registrations, near_ms, far_ms)


def _times(figures: SearchFigures) -> tuple[float, float]:
    return figures.p50_ms, figures.p95_ms


async def _port(owner: Database, tenant: Collection) -> int:
    async with owner.transaction() as connection:
        return int((await connection.execute(text(PORT_OF), {"id": str(tenant.id)})).scalar_one())


def _pairs(
    tenants: list[Collection], ports: list[int]
) -> tuple[tuple[Collection, Collection], tuple[Collection, Collection] | None]:
    """Returns two collections of one node, and two of different nodes."""
    pairs = list(itertools.combinations(range(len(tenants)), 2))
    near = next((tenants[a], tenants[b]) for a, b in pairs if ports[a] == ports[b])
    return near, next(((tenants[a], tenants[b]) for a, b in pairs if ports[a] != ports[b]), None)


def table(one: Figures, several: Figures, title: str) -> Table:
    shown = Table("measurement", "one node", "distributed", "ratio", title=title)
    for name in ("small", "in_database", "in_memory"):
        for quantile, position in (("p50", 0), ("p95", 1)):
            first, second = getattr(one, name)[position], getattr(several, name)[position]
            shown.add_row(f"search {name}, {quantile} ms", f"{first:.1f}", f"{second:.1f}", f"{second / first:.2f}")
    ratio = several.registrations / one.registrations
    shown.add_row("registrations/s", f"{one.registrations:.0f}", f"{several.registrations:.0f}", f"{ratio:.2f}")
    ratio = several.move_ms / one.move_ms
    shown.add_row("move within a node, ms", f"{one.move_ms:.1f}", f"{several.move_ms:.1f}", f"{ratio:.2f}")
    if several.far_move_ms is not None:
        ratio = several.far_move_ms / one.move_ms
        shown.add_row("move to another node, ms", f"{one.move_ms:.1f}", f"{several.far_move_ms:.1f}", f"{ratio:.2f}")
    return shown


def main(
    cluster: Annotated[str, typer.Argument(help="Coordinator, as a role that may create databases on all nodes.")],
    people: Annotated[int, typer.Option(help="Number of people of the large collection.")] = 100_000,
    collections: Annotated[
        int, typer.Option(help="Number of collections into which the same people are loaded as well.")
    ] = 100,
    searches: Annotated[int, typer.Option(help="Number of searches of each kind.")] = 500,
) -> None:
    """Measure searches, registrations and moves on one node of a Citus cluster and on all of its nodes."""
    console = Console()
    gallery = make_gallery(people, 128, searches, 0)
    _, truth = exact(gallery)
    measured = []
    for is_distributed in (False, True):
        console.print("distributed" if is_distributed else "one node")
        with citus.new_database(cluster, distributed=is_distributed) as url:
            schema.upgrade(url)
            measured.append(asyncio.run(measure(url, is_distributed, gallery, truth, collections, console)))
    console.print(table(measured[0], measured[1], f"{people:,} people, {collections:,} collections"))


if __name__ == "__main__":
    typer.run(main)
