"""Stored crops are encrypted again under the current key, beside running services."""

import uuid
from collections.abc import Mapping

import numpy as np
import pytest
from sqlalchemy import select, text

from service.gallery.maintenance import reencryption
from service.gallery.people import crops
from service.gallery.people.collections import Collection
from service.gallery.people.crop_cipher import CropCipher, crop_key_id
from service.gallery.storage.database import Database
from service.gallery.storage.tables import crop
from tests.gallery_rows import enrol, unit

pytestmark = pytest.mark.anyio
OLD, NEW, LOST = b"o" * 32, b"n" * 32, b"l" * 32


async def store(
    database: Database, collection: Collection, secret: bytes, count: int
) -> dict[tuple[uuid.UUID, bytes], bytes]:
    """Stores `count` crops of one identity and returns their files by their keys."""
    identity = await enrol(database, collection, uuid.uuid4().hex, unit(np.random.default_rng(1), 1))
    files = {uuid.uuid4().bytes * 2: f"crop {number}".encode() for number in range(count)}
    cipher = CropCipher([secret])
    encrypted = {source: cipher.encrypt(file, source) for source, file in files.items()}
    async with database.transaction(collection_id=collection.id) as connection:
        await crops.store(connection, collection.id, identity, encrypted)
    return {(identity, source): file for source, file in files.items()}


async def decrypted(
    database: Database, collection: Collection, cipher: CropCipher
) -> Mapping[tuple[uuid.UUID, bytes], bytes]:
    """Returns the files of all crops of a collection that have the cipher's current key."""
    query = select(crop.c.identity_id, crop.c.source_sha256, crop.c.encrypted.label("encrypted"))
    async with database.transaction(all_collections=True) as connection:
        rows = (await connection.execute(query.where(crop.c.collection_id == collection.id))).all()
    current = [row for row in rows if row.encrypted.startswith(cipher.current_key_id)]
    return {(row.identity_id, row.source_sha256): cipher.decrypt(row.encrypted, row.source_sha256) for row in current}


@pytest.fixture(autouse=True)
async def no_crops(database: Database) -> None:
    async with database.transaction(all_collections=True) as connection:
        await connection.execute(text("DELETE FROM crop"))


async def test_all_crops_of_former_keys_are_encrypted_again(
    database: Database, collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reencryption, "BATCH", 7)
    expected = await store(database, collection, OLD, 30) | await store(database, collection, NEW, 5)
    cipher, reported = CropCipher([NEW, OLD]), list[int]()
    result = await reencryption.reencrypt(database, cipher, reported.append)
    assert (result.reencrypted, result.undecryptable, result.remaining) == (30, 0, {})
    assert (sum(reported), max(reported)) == (30, 7)
    assert await decrypted(database, collection, CropCipher([NEW])) == expected
    assert (await reencryption.reencrypt(database, cipher, reported.append)).reencrypted == 0


async def test_crops_of_lost_keys_and_altered_crops_are_counted(database: Database, collection: Collection) -> None:
    expected = await store(database, collection, OLD, 3)
    await store(database, collection, LOST, 2)
    altered = await store(database, collection, OLD, 1)
    async with database.transaction(all_collections=True) as connection:
        change = text("UPDATE crop SET sealed = sealed || 'x' WHERE source_sha256 = :source")
        await connection.execute(change, {"source": next(iter(altered))[1]})
    result = await reencryption.reencrypt(database, CropCipher([NEW, OLD]), lambda _: None)
    assert (result.reencrypted, result.undecryptable) == (3, 3)
    assert result.remaining == {crop_key_id(LOST): 2, crop_key_id(OLD): 1}
    assert await decrypted(database, collection, CropCipher([NEW])) == expected


async def test_rows_that_a_request_has_locked_are_skipped_and_done_later(
    database: Database, collection: Collection
) -> None:
    expected = await store(database, collection, OLD, 4)
    cipher = CropCipher([NEW, OLD])
    (identity, source), _ = next(iter(expected.items()))
    async with database.transaction(collection_id=collection.id) as connection:
        await crops.delete(connection, collection.id, identity, [source])
        result = await reencryption.reencrypt(database, cipher, lambda _: None)
        assert (result.reencrypted, result.undecryptable, result.remaining) == (3, 0, {crop_key_id(OLD): 1})
        await connection.rollback()
    assert (await reencryption.reencrypt(database, cipher, lambda _: None)).reencrypted == 1
    assert await decrypted(database, collection, CropCipher([NEW])) == expected
