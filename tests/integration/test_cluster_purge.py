"""A purge on a Citus cluster: searches the files of every node for the bytes of an erased identity's embeddings."""

import numpy as np
import psycopg
import pytest

from service.gallery.access.audit_entries import SERVICE
from service.gallery.access.audit_trail import AuditTrail
from service.gallery.maintenance import purge
from service.gallery.people import collections, erasure
from service.gallery.storage import schema
from service.gallery.storage.database import Database
from tests.databases import CLUSTER, libpq
from tests.gallery_rows import enrol, unit
from tools import citus

pytestmark = pytest.mark.anyio
FILES_CONTAINING = """
    SELECT count(*) FROM pg_class
    WHERE position(%s::bytea IN pg_read_binary_file(pg_relation_filepath(oid), 0, 100000000, true)) > 0
"""
DIM = 128


def files_containing(url: str, pattern: bytes) -> int:
    """Returns the number of tables and indexes on all nodes whose files contain the bytes."""
    total = 0
    for node in citus.nodes(url):
        with psycopg.connect(libpq(node), autocommit=True) as connection:
            connection.execute("CHECKPOINT")
            connection.execute("SET citus.show_shards_for_app_name_prefixes = '*'")
            found = connection.execute(FILES_CONTAINING, [pattern]).fetchone()
            assert found is not None
            total += found[0]
    return total


@pytest.mark.skipif(CLUSTER is None, reason="CITUS_URL does not name the coordinator of a cluster")
async def test_a_purge_removes_the_bytes_on_the_nodes(empty_database: str) -> None:
    schema.upgrade(empty_database)
    database = Database(empty_database)
    async with database.transaction() as connection:
        await collections.add_model(connection, "wide", DIM, "0" * 64)
        collection = await collections.create(connection, "people", "wide")
    random = np.random.default_rng(3)
    for number in range(40):
        await enrol(database, collection, f"p{number}", unit(random, 2, dim=DIM))
    embeddings = unit(random, 2, dim=DIM)
    identity_id = await enrol(database, collection, "erased", embeddings)
    with psycopg.connect(libpq(empty_database), autocommit=True) as owner:
        owner.execute("ANALYZE")
    pattern = embeddings[0].tobytes()[64:112]
    assert files_containing(empty_database, pattern) > 0
    async with database.transaction(collection_id=collection.id) as connection:
        await erasure.erase(connection, AuditTrail(None), collection.id, identity_id, SERVICE)
    assert files_containing(empty_database, pattern) > 0, "the bytes are gone without a purge"
    report = list(purge.purge(empty_database))
    assert files_containing(empty_database, pattern) == 0
    assert any("statistics of these tables were deleted" in line for line in report)
    assert "the old files are deleted" in report
    await database.close()
