"""A Citus cluster that grows during requests: shards move to a new node, and a large collection gets its own shard."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

import numpy as np
import psycopg
import pytest

from service.errors import DatabaseUnavailable
from service.gallery.index.memory_indexes import MemoryIndexes
from service.gallery.people import collections
from service.gallery.people.collections import Collection
from service.gallery.storage import row_security, schema
from service.gallery.storage.database import Database
from tests.databases import CLUSTER, libpq
from tests.gallery_rows import enrol, nearest_to, unit
from tools import citus

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(CLUSTER is None, reason="CITUS_URL does not name the coordinator of a cluster"),
    pytest.mark.timeout(300),
]
COLLECTIONS = 8
NODES = "SELECT count(DISTINCT nodename || ':' || nodeport) FROM citus_shards WHERE table_name = 'identity'::regclass"
OWN_SHARDS = """
    SELECT shardid FROM pg_dist_shard
    WHERE logicalrelid = 'identity'::regclass AND shardminvalue = shardmaxvalue
"""


@pytest.fixture
def url() -> Iterator[str]:
    """A migrated database on the coordinator and one worker."""
    with citus.new_database(CLUSTER or "", distributed=False) as url:
        citus.add_nodes(url, CLUSTER or "", limit=1)
        schema.upgrade(url)
        yield url


@pytest.fixture
async def service(url: str) -> AsyncIterator[Database]:
    """Connects under the role of the service."""
    database = Database(row_security.app_role_url(url))
    yield database
    await database.close()


async def galleries(database: Database) -> list[Collection]:
    created = []
    for number in range(COLLECTIONS):
        async with database.transaction() as connection:
            await collections.add_model(connection, "tiny", 16, "0" * 64)
            created.append(await collections.create(connection, f"c{number}", "tiny"))
    return created


class Load:
    """Enrols people of all collections and searches for each of them at once, in the database and in memory."""

    def __init__(self, database: Database, galleries: list[Collection]) -> None:
        self.database, self.galleries = database, galleries
        self.indexes = MemoryIndexes(database, 10**8)
        self.enrolled: list[tuple[Collection, str, np.ndarray]] = []
        self._random = np.random.default_rng(2)

    async def run(self, until: asyncio.Event) -> None:
        for gallery in self.galleries:
            await self.indexes.load(gallery.id, "tiny")
        while not until.is_set():
            for gallery in self.galleries:
                with contextlib.suppress(DatabaseUnavailable):  # the service answers 503, and clients try again
                    await self._enrol(gallery)
            await self.indexes.refresh()

    async def _enrol(self, gallery: Collection) -> None:
        name, embedding = f"p{len(self.enrolled)}", unit(self._random, 1)
        await enrol(self.database, gallery, name, embedding)
        self.enrolled.append((gallery, name, embedding[0]))
        await self._find(*self.enrolled[-1])
        await self._find(*self.enrolled[self._random.integers(len(self.enrolled))])

    async def _find(self, gallery: Collection, name: str, embedding: np.ndarray) -> None:
        async with self.database.transaction(collection_id=gallery.id) as connection:
            found = await nearest_to(connection, gallery.id, embedding, 1)
        assert found.candidates[0].external_id == name

    async def check(self) -> None:
        for person in self.enrolled:
            await self._find(*person)
        await self.indexes.refresh()
        for gallery in self.galleries:
            index = self.indexes.find(gallery.id, "tiny")
            if index is None:  # its shard has moved to another server
                await self.indexes.load(gallery.id, "tiny")
                index = self.indexes.find(gallery.id, "tiny")
            assert index is not None
            assert index.people == sum(other is gallery for other, *_ in self.enrolled)


async def during_load(load: Load, work: str, url: str) -> None:
    """Executes statements while people are enrolled and searched for."""
    ended = asyncio.Event()
    running = asyncio.create_task(load.run(ended))
    await asyncio.sleep(0.5)
    before = len(load.enrolled)
    try:
        await asyncio.to_thread(_execute, url, work)
        assert not running.done(), await running
    finally:
        ended.set()
        await running
    assert len(load.enrolled) > before
    await load.check()


def _execute(url: str, statements: str) -> None:
    with psycopg.connect(libpq(url), autocommit=True) as connection:
        for statement in statements.split("; "):
            connection.execute(statement)


async def test_a_node_is_added_and_shards_move_during_requests(url: str, service: Database) -> None:
    load = Load(service, await galleries(service))
    [*_, (host, port)] = citus.workers(CLUSTER or "")
    await during_load(load, f"SELECT citus_add_node('{host}', {port}); SELECT rebalance_table_shards()", url)
    with psycopg.connect(libpq(url)) as connection:
        assert connection.execute(NODES).fetchone() == (2,)


async def test_a_large_collection_gets_a_shard_of_its_own_during_requests(url: str, service: Database) -> None:
    created = await galleries(service)
    load = Load(service, created)
    isolation = f"SELECT isolate_tenant_to_new_shard('identity', '{created[0].id}', 'CASCADE')"
    await during_load(load, isolation, url)
    with psycopg.connect(libpq(url)) as connection:
        assert connection.execute(OWN_SHARDS).rowcount == 1
