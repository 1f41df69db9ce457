"""Searches PostgreSQL's files for the bytes of an erased identity's embeddings, before and after a purge."""

import uuid
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import text

from service.embedded_postgres.lease import EmbeddedPostgres
from service.gallery.access.audit_entries import SERVICE
from service.gallery.access.audit_trail import AuditTrail
from service.gallery.index.centroids import binary_code, centroid_of
from service.gallery.maintenance import purge
from service.gallery.people import collections, erasure
from service.gallery.people.collections import Collection
from service.gallery.storage import schema
from service.gallery.storage.database import Database
from service.gallery.storage.tables import CODE_BITS
from tests.gallery_rows import enrol, unit

pytestmark = pytest.mark.anyio
# PostgreSQL stores 512 numbers out of line by default (TOAST); 128 numbers are small enough for its statistics.
DIMS = (128, 512)


def files_containing(root: Path, pattern: bytes) -> set[str]:
    """Returns the kinds of the server's files that contain the bytes: "log" or "tables and indexes"."""
    kinds = set()
    for file in root.rglob("*"):
        if file.is_file() and pattern in file.read_bytes():
            kinds.add("log" if "pg_wal" in file.parts else "tables and indexes")
    return kinds


async def checkpoint(database: Database) -> None:
    async with database.autocommit() as connection:
        await connection.execute(text("CHECKPOINT"))


@pytest.mark.parametrize("dim", DIMS)
async def test_a_purge_removes_the_bytes_of_an_erased_identity(data_folder: Path, dim: int) -> None:
    root = data_folder / "postgres"
    with EmbeddedPostgres(root) as url:
        schema.upgrade(url)
        database = Database(url)
        async with database.transaction() as connection:
            await collections.add_model(connection, "wide", dim, "0" * 64)
            collection = await collections.create(connection, "people", "wide")
        random = np.random.default_rng(3)
        for number in range(40):
            await enrol(database, collection, f"p{number}", unit(random, 2, dim=dim))
        embeddings = unit(random, 2, dim=dim)
        identity_id = await enrol(database, collection, "erased", embeddings)
        async with database.autocommit() as connection:
            await connection.execute(text("ANALYZE"))
        await checkpoint(database)

        mean = centroid_of(embeddings)
        stored = {
            "template": embeddings[0].tobytes(),
            "code": bytes(int(binary_code(mean)[bit : bit + 8], 2) for bit in range(0, CODE_BITS, 8)),
        }
        patterns = {name: data[len(data) // 8 : len(data) // 8 + 48] for name, data in stored.items()}
        patterns["centroid"] = await stored_centroid(database, identity_id, len(patterns["template"]))
        for name, pattern in patterns.items():
            assert "tables and indexes" in files_containing(root, pattern), name
        # A page header of the write-ahead log may divide one of the parts.
        parts = (stored["template"][start : start + 48] for start in range(0, len(stored["template"]) - 48, 256))
        assert any("log" in files_containing(root, part) for part in parts)

        await erase(database, collection, identity_id)
        await checkpoint(database)
        kinds = [files_containing(root, pattern) for pattern in patterns.values()]
        assert any("tables and indexes" in kind for kind in kinds), "the bytes are gone without a purge"

        report = list(purge.purge(url))
        await checkpoint(database)
        for name, pattern in patterns.items():
            remaining = files_containing(root, pattern)
            assert "tables and indexes" not in remaining, (name, remaining)
        assert any("write-ahead log" in line for line in report)
        await database.close()


async def stored_centroid(database: Database, identity_id: uuid.UUID, length: int) -> bytes:
    """Returns `length` bytes of the centroid as PostgreSQL stores it, which computes it in SQL."""
    async with database.transaction(all_collections=True) as connection:
        query = text("SELECT vector_send(embedding) FROM centroid WHERE identity_id = :id")
        sent = bytes((await connection.execute(query, {"id": identity_id})).scalar_one())
    numbers = np.frombuffer(sent[4:], ">f4").astype("<f4").tobytes()
    return numbers[len(numbers) // 8 : len(numbers) // 8 + length]


async def erase(database: Database, collection: Collection, identity_id: uuid.UUID) -> None:
    async with database.transaction(collection_id=collection.id) as connection:
        await erasure.erase(connection, AuditTrail(None), collection.id, identity_id, SERVICE)
