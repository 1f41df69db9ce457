"""Aligned crops of enrolled faces, encrypted, from which another model embeds the same people without new photos."""

import os
import uuid
from collections.abc import Collection, Mapping, Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from sqlalchemy import delete, exists, select, text, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import CropUnreadable
from service.gallery.storage.tables import crop

KEY_BYTES, NAME_BYTES, NONCE_BYTES = 32, 4, 12


class CropCipher:
    """Seals crops with AES-256-GCM (NIST SP 800-38D), each bound to the face that it is of.

    A sealed crop is the key's name (4 bytes, derived from the secret), a random nonce (12 bytes), and the encrypted
    file with its tag.

    Args:
        secrets: the first one seals, each of them opens what it has sealed.
    """

    def __init__(self, secrets: Sequence[bytes]) -> None:
        self._ciphers: dict[bytes, AESGCM] = {}
        for secret in secrets:
            name, key = _derived(secret)
            self._ciphers.setdefault(name, AESGCM(key))

    def seal(self, file: bytes, source_sha256: bytes) -> bytes:
        name, cipher = next(iter(self._ciphers.items()))
        nonce = os.urandom(NONCE_BYTES)
        return name + nonce + cipher.encrypt(nonce, file, source_sha256)

    def open(self, sealed: bytes, source_sha256: bytes) -> bytes:
        """Raises CropUnreadable: it was sealed under another key, or is not what was sealed for this face."""
        name, nonce = sealed[:NAME_BYTES], sealed[NAME_BYTES : NAME_BYTES + NONCE_BYTES]
        if (cipher := self._ciphers.get(name)) is None:
            raise CropUnreadable("a crop was encrypted under a key that is neither crops.key nor in crops.old_keys")
        try:
            return cipher.decrypt(nonce, sealed[NAME_BYTES + NONCE_BYTES :], source_sha256)
        except (InvalidTag, ValueError):
            raise CropUnreadable("a stored crop was altered") from None


def _derived(secret: bytes) -> tuple[bytes, bytes]:
    """Name and key, of which the one tells nothing of the other (HKDF, RFC 5869)."""
    made = HKDF(hashes.SHA256(), NAME_BYTES + KEY_BYTES, salt=None, info=b"identity-registry crops").derive(secret)
    return made[:NAME_BYTES], made[NAME_BYTES:]


async def keep(
    connection: AsyncConnection,
    crop_cipher: CropCipher,
    collection_id: uuid.UUID,
    identity_id: uuid.UUID,
    files: Mapping[bytes, bytes],
) -> None:
    """Store crops by their `source_sha256`, in the place of older ones, whose key may be lost."""
    rows = [
        {
            "collection_id": collection_id,
            "identity_id": identity_id,
            "source_sha256": source,
            "sealed": crop_cipher.seal(file, source),
        }
        for source, file in files.items()
    ]
    if rows:
        made = insert(crop).values(rows)
        key = ["collection_id", "identity_id", "source_sha256"]
        await connection.execute(made.on_conflict_do_update(index_elements=key, set_={"sealed": made.excluded.sealed}))


async def sealed_of(
    connection: AsyncConnection, collection_id: uuid.UUID, wanted: Mapping[uuid.UUID, Collection[bytes]]
) -> dict[tuple[uuid.UUID, bytes], bytes]:
    """Crops of people as they are stored, by person and `source_sha256`; of those wanted, what there is."""
    keys = [(identity_id, source) for identity_id, sources in wanted.items() for source in sources]
    statement = select(crop.c.identity_id, crop.c.source_sha256, crop.c.sealed).where(
        crop.c.collection_id == collection_id, tuple_(crop.c.identity_id, crop.c.source_sha256).in_(keys)
    )
    return {(row.identity_id, row.source_sha256): row.sealed for row in await connection.execute(statement)}


async def forget(
    connection: AsyncConnection, collection_id: uuid.UUID, identity_id: uuid.UUID, sources: Sequence[bytes]
) -> None:
    """Delete crops of a person."""
    statement = delete(crop).where(crop.c.collection_id == collection_id, crop.c.identity_id == identity_id)
    await connection.execute(statement.where(crop.c.source_sha256.in_(sources)))


async def delete_all(connection: AsyncConnection, collection_id: uuid.UUID) -> int:
    """Delete every crop of a collection; how many there were."""
    await connection.execute(text("SET LOCAL statement_timeout = 0"))
    return (await connection.execute(delete(crop).where(crop.c.collection_id == collection_id))).rowcount


async def reassign(
    connection: AsyncConnection,
    collection_id: uuid.UUID,
    source: uuid.UUID,
    into: uuid.UUID,
    only: Sequence[bytes] | None = None,
) -> None:
    """Give a person's crops to another one, who may have some of them already. `only`: these."""
    theirs = crop.alias("theirs")
    same = exists().where(
        theirs.c.collection_id == collection_id,
        theirs.c.identity_id == into,
        theirs.c.source_sha256 == crop.c.source_sha256,
    )
    statement = update(crop).where(crop.c.collection_id == collection_id, crop.c.identity_id == source, ~same)
    if only is not None:
        statement = statement.where(crop.c.source_sha256.in_(only))
    await connection.execute(statement.values(identity_id=into))
