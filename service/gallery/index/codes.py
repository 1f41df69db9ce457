"""Embeddings as codes of 512 bits: so small that all of a large collection can be compared, and none is lost.

A code holds the signs of an embedding after random turns; the share of bits in which two differ estimates the angle
between them (Charikar, "Similarity estimation techniques from rounding algorithms", STOC 2002). The turns are Hadamard
matrices after random changes of sign (Ailon and Chazelle, "The fast Johnson-Lindenstrauss transform", STOC 2006), which
are the same everywhere and need no storage.
"""

import hashlib
from functools import cache

import numpy as np
import numpy.typing as npt
from sqlalchemy import bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.gallery.storage.tables import CODE_BITS, centroid

Floats = npt.NDArray[np.float32]
FILLED_AT_ONCE = 500


def codes_of(embeddings: Floats) -> list[str]:
    """The code of each of (n, dim) embeddings, as PostgreSQL writes bits."""
    count, dim = embeddings.shape
    side = 1 << (dim - 1).bit_length()
    padded = np.zeros((count, side), np.float32)
    padded[:, :dim] = embeddings
    turned = [_hadamard(padded * _signs(turn, side)) for turn in range(max(1, CODE_BITS // side))]
    bits = np.concatenate(turned, axis=1)[:, :CODE_BITS] > 0
    digits = bits.astype(np.uint8) + ord("0")
    return [row.tobytes().decode() for row in digits]


def code_of(embedding: Floats) -> str:
    """The code of one (dim,) embedding."""
    return codes_of(embedding[None])[0]


async def fill(connection: AsyncConnection) -> int:
    """Give codes to some centroids that have none, as of an older release or of a bulk load; to how many.

    The transaction must be for everything.
    """
    key = centroid.c.collection_id, centroid.c.identity_id, centroid.c.model_id
    statement = (
        select(*key, centroid.c.embedding)
        .where(centroid.c.code.is_(None))
        .limit(FILLED_AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    rows = (await connection.execute(statement)).all()
    if not rows:
        return 0
    same = [column == bindparam(f"of_{column.name}") for column in key]
    values = [
        {
            "of_collection_id": row.collection_id,
            "of_identity_id": row.identity_id,
            "of_model_id": row.model_id,
            "made": code_of(np.asarray(row.embedding, np.float32)),
        }
        for row in rows
    ]
    await connection.execute(update(centroid).where(*same).values(code=bindparam("made")), values)
    return len(rows)


@cache
def _signs(turn: int, side: int) -> Floats:
    """(side,) random ones and minus ones, the same everywhere."""
    data = b"".join(hashlib.sha256(f"{turn}/{side}/{block}".encode()).digest() for block in range(-(-side // 256)))
    return np.unpackbits(np.frombuffer(data, np.uint8))[:side].astype(np.float32) * 2 - 1


def _hadamard(rows: Floats) -> Floats:
    """Each of (n, 2 ** k) rows times the Hadamard matrix, in k steps (fast Walsh-Hadamard transform)."""
    count, side = rows.shape
    step = 1
    while step < side:
        pairs = rows.reshape(count, side // (2 * step), 2, step)
        rows = np.stack([pairs[:, :, 0] + pairs[:, :, 1], pairs[:, :, 0] - pairs[:, :, 1]], axis=2).reshape(count, side)
        step *= 2
    return rows
