"""Distribution among the nodes of a Citus cluster, which CITUS_URL names (its coordinator, as a superuser).

The tests of one server run in any case.
"""

import uuid
from collections.abc import AsyncIterator, Iterator

import numpy as np
import pytest
from sqlalchemy import NullPool, create_engine, func, select, text
from sqlalchemy.exc import ProgrammingError
from typer.testing import CliRunner

from service.__main__ import app
from service.errors import StartupError
from service.gallery.access.audit_entries import SERVICE
from service.gallery.access.audit_trail import AuditTrail
from service.gallery.index.memory_indexes import MemoryIndexes
from service.gallery.people import collections, erasure, merge_split_move
from service.gallery.people.collections import Collection
from service.gallery.storage import distribution, row_security, schema
from service.gallery.storage.database import Database
from service.gallery.storage.tables import centroid, identity, template
from service.gallery.storage.visible_collections import CITUS, SINGLE_SERVER, RowSecurity
from tests.databases import CLUSTER
from tests.gallery_rows import enrol, nearest_to, unit
from tools import citus

needs_cluster = pytest.mark.skipif(CLUSTER is None, reason="CITUS_URL does not name the coordinator of a cluster")
KEY = b"the audit key of the tests, long enough"
LEAKPROOF = """
    SELECT result FROM run_command_on_all_nodes(
        'SELECT proleakproof FROM pg_proc WHERE oid = ''jsonb_contains''::regproc')
"""
NODES = "SELECT count(DISTINCT nodename || ':' || nodeport) FROM citus_shards WHERE table_name = 'identity'::regclass"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A migrated database on the coordinator alone, whose nodes are added later."""
    with citus.new_database(CLUSTER or "", distributed=False) as url:
        schema.upgrade(url)
        yield url


@pytest.fixture
async def service(url: str) -> AsyncIterator[Database]:
    """Connects under the role of the service."""
    database = Database(row_security.app_role_url(url))
    yield database
    await database.close()


def run(url: str, command: str) -> str:
    result = CliRunner().invoke(app, ["db", command], env={"REGISTRY_DATABASE__URL": url})
    assert result.exit_code == 0, result.output
    return result.output


async def filled_collections(database: Database, count: int) -> dict[str, tuple[Collection, np.ndarray]]:
    random = np.random.default_rng(3)
    found = {}
    for number in range(count):
        async with database.transaction() as connection:
            await collections.add_model(connection, "tiny", 16, "0" * 64)
            created = await collections.create(connection, f"collection-{number}-{uuid.uuid4().hex[:8]}", "tiny")
        people = unit(random, 5)
        for position, embedding in enumerate(people):
            await enrol(database, created, f"collection-{number}-{position}", embedding[None])
        found[f"collection-{number}"] = created, people
    return found


async def counts(database: Database) -> list[int]:
    async with database.transaction(all_collections=True) as connection:
        tables = identity, template, centroid
        return [(await connection.execute(select(func.count()).select_from(table))).scalar_one() for table in tables]


def test_without_citus_the_command_changes_nothing_and_says_what_is_missing(postgres_url: str) -> None:
    if CLUSTER is not None:
        pytest.skip("the database has Citus")
    engine = create_engine(postgres_url, poolclass=NullPool)
    with engine.begin() as connection:
        assert not distribution.is_distributed(connection)
        with pytest.raises(StartupError, match="citus_add_node"):
            list(distribution.distribute(connection))


@pytest.mark.anyio
@pytest.mark.skipif(CLUSTER is not None, reason="Citus permits one of the forms only")
@pytest.mark.parametrize("form", [SINGLE_SERVER, CITUS], ids=["one server", "Citus"])
async def test_both_forms_of_row_level_security_show_the_same_rows(
    database: Database, collection: Collection, form: RowSecurity
) -> None:
    """The form of Citus works on one server too. The transaction that applies it is rolled back."""
    others = [gallery for gallery, _ in (await filled_collections(database, 2)).values()]
    await enrol(database, collection, "one", unit(np.random.default_rng(4), 1))
    shown = text("SELECT collection_id, count(*) FROM identity GROUP BY collection_id")
    async with database.engine.connect() as connection:
        for statement in form.functions:
            await connection.exec_driver_sql(statement.replace("%", "%%"))
        await connection.execute(
            text(f"ALTER POLICY one_collection ON identity USING ({form.condition}) WITH CHECK ({form.condition})")
        )
        await connection.execute(text("SET LOCAL ROLE registry_app"))
        assert (await connection.execute(shown)).all() == []
        await row_security.allow_collection(connection, collection.id)
        assert (await connection.execute(shown)).all() == [(collection.id, 1)]
        await row_security.allow_collection(connection, others[0].id)
        assert set(await connection.execute(shown)) == {(collection.id, 1), (others[0].id, 5)}
        refused = text("INSERT INTO identity (collection_id, id, external_id, label) VALUES (:id, :id, 'x', 'x')")
        with pytest.raises(ProgrammingError, match="row-level security"):
            async with connection.begin_nested():
                await connection.execute(refused, {"id": others[1].id})
        await row_security.allow_all_collections(connection)
        assert {(collection.id, 1), (others[1].id, 5)} < set(await connection.execute(shown))
        await connection.rollback()


@needs_cluster
@pytest.mark.anyio
async def test_a_filled_registry_is_distributed_served_and_brought_back(url: str, service: Database) -> None:
    galleries = await filled_collections(service, 8)
    before = await counts(service)
    citus.add_nodes(url, CLUSTER or "")
    assert "identity: distributed by collection" in run(url, "distribute")
    assert run(url, "distribute").startswith("all tables")  # nothing is left to do
    await _check_cluster(url, service, galleries)
    after = await counts(service)
    assert after == [number - 1 for number in before]  # one person was erased
    run(url, "undistribute")
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        assert not distribution.is_distributed(connection)
        triggers = "SELECT count(*) FROM pg_trigger WHERE tgrelid = 'centroid'::regclass AND NOT tgisinternal"
        assert connection.execute(text(triggers)).scalar() == 3
    assert await counts(service) == after
    await _check_answers(service, galleries, erased="collection-0")


async def _check_cluster(url: str, service: Database, galleries: dict[str, tuple[Collection, np.ndarray]]) -> None:
    with create_engine(url, poolclass=NullPool).connect() as connection:
        assert connection.execute(text(NODES)).scalar_one() >= 2
        assert set(connection.execute(text(LEAKPROOF)).scalars()) == {"t"}  # filters need it on the nodes
    await _check_answers(service, galleries, erased=None)
    async with service.transaction() as connection:  # no collection is allowed
        assert (await connection.execute(select(func.count()).select_from(identity))).scalar_one() == 0
    (first, people), (second, _) = galleries["collection-0"], galleries["collection-1"]
    trail = AuditTrail(KEY)
    async with service.transaction(collection_id=first.id) as connection:
        erased = await nearest_to(connection, first.id, people[0], 1)
        await erasure.erase(connection, trail, first.id, erased.candidates[0].id, SERVICE)
    async with service.transaction(collection_id=second.id) as connection:
        await collections.get_by_id(connection, first.id)
        moved = await nearest_to(connection, first.id, people[1], 1)
        await merge_split_move.move(connection, first, second, moved.candidates[0].id)
        await merge_split_move.move(connection, second, first, moved.candidates[0].id)


async def _check_answers(
    service: Database, galleries: dict[str, tuple[Collection, np.ndarray]], erased: str | None
) -> None:
    indexes = MemoryIndexes(service, 10**8)
    for name, (gallery, people) in galleries.items():
        await indexes.load(gallery.id, "tiny")
        await indexes.refresh()
        index = indexes.find(gallery.id, "tiny")
        assert index is not None
        assert index.people == len(people) - (name == erased)
        for position, embedding in enumerate(people):
            if position == 0 and name == erased:
                continue
            async with service.transaction(collection_id=gallery.id) as connection:
                found = await nearest_to(connection, gallery.id, embedding, 1)
            assert found.candidates[0].external_id == f"{name}-{position}"
