"""Where the bytes of an embedding are after its person was erased, looked for in PostgreSQL's own files."""

import uuid
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import text

from service.embedded_postgres.lease import EmbeddedPostgres
from service.gallery.access.audit import SERVICE, AuditTrail
from service.gallery.index import hnsw
from service.gallery.index.codes import code_of
from service.gallery.maintenance import purge
from service.gallery.people import collections, erasure, identities, templates
from service.gallery.people.collections import Collection
from service.gallery.storage import schema
from service.gallery.storage.database import Database
from service.gallery.storage.tables import CODE_BITS

pytestmark = pytest.mark.anyio
# 512 numbers are long enough for PostgreSQL to store them apart (TOAST), 128 short enough for its statistics.
DIMS = (128, 512)


def unit(random: np.random.Generator, count: int, dim: int) -> np.ndarray:
    vectors = random.normal(size=(count, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


async def enrol(database: Database, collection: Collection, name: str, embeddings: np.ndarray) -> uuid.UUID:
    async with database.transaction() as connection:
        identity_id, _ = await identities.lock_or_create(connection, collection.id, name, None, None)
        samples = [
            templates.NewTemplate(uuid.uuid4().bytes * 2, embedding, (0, 0, 9, 9), 0.9, 0.5) for embedding in embeddings
        ]
        await templates.add(connection, collection.id, identity_id, "wide", samples)
        await templates.recompute_centroid(connection, collection.id, identity_id, "wide")
    return identity_id


def holding(root: Path, needle: bytes) -> set[str]:
    """Files of the server in which the bytes stand, by kind."""
    kinds = set()
    for file in root.rglob("*"):
        if file.is_file() and needle in file.read_bytes():
            kinds.add("log" if "pg_wal" in file.parts else "tables and indexes")
    return kinds


async def checkpoint(database: Database) -> None:
    async with database.autocommit() as connection:
        await connection.execute(text("CHECKPOINT"))


@pytest.mark.parametrize("dim", DIMS)
async def test_the_bytes_of_an_erased_person_are_found_and_then_gone(data_folder: Path, dim: int) -> None:
    root = data_folder / "postgres"
    with EmbeddedPostgres(root) as url:
        schema.upgrade(url)
        database = Database(url)
        async with database.transaction() as connection:
            await collections.add_model(connection, "wide", dim, "0" * 64)
            collection = await collections.create(connection, "people", "wide")
        random = np.random.default_rng(3)
        for number in range(40):
            await enrol(database, collection, f"p{number}", unit(random, 2, dim))
        victim = unit(random, 2, dim)
        identity_id = await enrol(database, collection, "victim", victim)
        await hnsw.maintain(database, build_from=10, drop_below=1)
        async with database.autocommit() as connection:
            await connection.execute(text("ANALYZE"))
        await checkpoint(database)

        mean = templates.centroid_of(victim)
        stored = {
            "template": victim[0].tobytes(),
            "centroid": mean.tobytes(),
            "index": mean.astype(np.float16).tobytes(),
            "code": bytes(int(code_of(mean)[bit : bit + 8], 2) for bit in range(0, CODE_BITS, 8)),
        }
        needles = {name: data[len(data) // 8 : len(data) // 8 + 48] for name, data in stored.items()}
        for name, needle in needles.items():
            assert "tables and indexes" in holding(root, needle), name
        assert "log" in holding(root, needles["template"])

        await erased(database, collection, identity_id)
        await checkpoint(database)
        assert any("tables and indexes" in holding(root, needle) for needle in needles.values()), "gone without a purge"

        told = list(purge.purge(url))
        await checkpoint(database)
        for name, needle in needles.items():
            left = holding(root, needle)
            assert "tables and indexes" not in left, (name, left)
        assert any("write-ahead log" in line for line in told)
        assert await ann_is_ready(database, collection)
        await database.close()


async def erased(database: Database, collection: Collection, identity_id: uuid.UUID) -> None:
    async with database.transaction() as connection:
        await erasure.erase(connection, AuditTrail(None), collection.id, identity_id, SERVICE)


async def ann_is_ready(database: Database, collection: Collection) -> bool:
    async with database.transaction() as connection:
        return await hnsw.is_ready(connection, collection.id, "wide")
