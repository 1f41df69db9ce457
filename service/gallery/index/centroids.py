"""Centroids with their 512-bit binary codes, by which large collections are searched.

A centroid is the L2-normalised mean of an identity's templates under one model. Its binary code holds the signs of the
embedding after random rotations; the share of bits in which two codes differ estimates the angle between the embeddings
(Charikar, "Similarity estimation techniques from rounding algorithms", STOC 2002). The rotations are Hadamard matrices
after random sign changes (Ailon and Chazelle, "The fast Johnson-Lindenstrauss transform", STOC 2006). They are the same
in every process, and nothing stores them.
"""

import hashlib
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from pgvector.sqlalchemy import Vector
from sqlalchemy import FromClause, Row, Select, bindparam, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from service.gallery.storage.tables import CODE_BITS, centroid, template

Floats = npt.NDArray[np.float32]
MIN_MEAN_LENGTH = 1e-6
"""A shorter mean of normalised embeddings has no reliable direction."""
FILL_BATCH = 500
"""Maximum number of centroids that one call of `fill_codes` updates."""


@dataclass(frozen=True, slots=True)
class Centroid:
    """The centroid of an identity under one model, (dim,) float32, and the number of its templates."""

    identity_id: uuid.UUID
    model_id: str
    embedding: Floats
    template_count: int


def centroid_of(embeddings: Floats) -> Floats:
    """Returns the L2-normalised mean of (n, dim) normalised embeddings; the first one if they cancel each other out."""
    mean = embeddings.mean(axis=0, dtype=np.float64)
    length = float(np.linalg.norm(mean))
    if length < MIN_MEAN_LENGTH:
        return embeddings[0]
    return (mean / length).astype(np.float32)


async def store(connection: AsyncConnection, collection_id: uuid.UUID, centroids: Sequence[Centroid]) -> None:
    """Inserts or replaces centroids of locked identities, with their 512-bit binary codes."""
    if not centroids:
        return
    rows = [
        {
            "collection_id": collection_id,
            "identity_id": item.identity_id,
            "model_id": item.model_id,
            "dim": len(item.embedding),
            "embedding": item.embedding,
            "template_count": item.template_count,
            "binary_code": binary_code(item.embedding),
        }
        for item in centroids
    ]
    await connection.execute(_STORE, rows)


def _store() -> Any:
    statement = insert(centroid)
    columns = [centroid.c[name] for name in ("dim", "embedding", "template_count", "binary_code")]
    changes: dict[Any, Any] = {column: statement.excluded[column.key] for column in columns}
    key = ["collection_id", "identity_id", "model_id"]
    return statement.on_conflict_do_update(index_elements=key, set_=changes)


_STORE = _store()


async def recompute(
    connection: AsyncConnection,
    collection_id: uuid.UUID,
    identity_ids: Collection[uuid.UUID],
    model_ids: Collection[str],
) -> dict[tuple[uuid.UUID, str], int]:
    """Recomputes the centroids of locked identities from their templates, in SQL; deletes those without a template.

    Returns:
        The number of templates by identity and model. A pair without templates is absent.
    """
    chosen = (
        select(template.c.identity_id, template.c.model_id, template.c.embedding)
        .where(template.c.collection_id == collection_id)
        .where(template.c.identity_id.in_(identity_ids), template.c.model_id.in_(model_ids))
        .subquery()
    )
    statement = means_of(chosen).add_columns(chosen.c.identity_id).group_by(chosen.c.identity_id)
    rows = (await connection.execute(statement)).all()
    centroids = [await from_mean(connection, collection_id, row.identity_id, row) for row in rows]
    await store(connection, collection_id, centroids)
    counts = {(item.identity_id, item.model_id): item.template_count for item in centroids}
    for model_id in model_ids:
        if empty := [identity_id for identity_id in identity_ids if (identity_id, model_id) not in counts]:
            of_model = centroid.c.collection_id == collection_id, centroid.c.model_id == model_id
            await connection.execute(delete(centroid).where(*of_model, centroid.c.identity_id.in_(empty)))
    return counts


def means_of(templates: FromClause) -> Select[Any]:
    """Returns a query for each model's normalised mean embedding, the mean's length and the number of templates."""
    mean = func.avg(templates.c.embedding, type_=Vector())
    return select(
        templates.c.model_id,
        func.l2_normalize(mean, type_=Vector()).label("mean"),
        func.vector_norm(mean).label("mean_length"),
        func.count().label("template_count"),
    ).group_by(templates.c.model_id)


async def from_mean(
    connection: AsyncConnection, collection_id: uuid.UUID, identity_id: uuid.UUID, row: Row[Any]
) -> Centroid:
    """Returns the centroid from a row of `means_of`. The oldest template replaces a mean without direction."""
    mean = row.mean
    if row.mean_length < MIN_MEAN_LENGTH:
        statement = (
            select(template.c.embedding)
            .where(template.c.collection_id == collection_id, template.c.identity_id == identity_id)
            .where(template.c.model_id == row.model_id)
            .order_by(template.c.created_at, template.c.id)
            .limit(1)
        )
        mean = (await connection.execute(statement)).scalar_one()
    return Centroid(identity_id, row.model_id, np.asarray(mean, np.float32), row.template_count)


async def fill_codes(connection: AsyncConnection) -> int:
    """Computes the binary codes of up to 500 centroids that have none (after a bulk load) and returns their number.

    They are of one collection, because Citus locks rows of one node only. The transaction must be allowed to see all
    collections.
    """
    key = centroid.c.collection_id, centroid.c.identity_id, centroid.c.model_id
    first = select(centroid.c.collection_id).where(centroid.c.binary_code.is_(None)).limit(FILL_BATCH).subquery()
    for collection_id in (await connection.execute(select(first.c.collection_id).distinct())).scalars().all():
        statement = (
            select(*key, centroid.c.embedding)
            .where(centroid.c.collection_id == collection_id, centroid.c.binary_code.is_(None))
            .limit(FILL_BATCH)
            .with_for_update(skip_locked=True)
        )
        if rows := (await connection.execute(statement)).all():
            return await _fill(connection, rows)
    return 0


async def _fill(connection: AsyncConnection, rows: Sequence[Row[Any, Any, Any, Any]]) -> int:
    key = centroid.c.collection_id, centroid.c.identity_id, centroid.c.model_id
    of_row = [column == bindparam(f"of_{column.name}") for column in key]
    values = [
        {
            "of_collection_id": row.collection_id,
            "of_identity_id": row.identity_id,
            "of_model_id": row.model_id,
            "new_code": binary_code(np.asarray(row.embedding, np.float32)),
        }
        for row in rows
    ]
    await connection.execute(update(centroid).where(*of_row).values(binary_code=bindparam("new_code")), values)
    return len(rows)


def codes_of(embeddings: Floats) -> npt.NDArray[np.uint8]:
    """Returns the codes of (n, dim) embeddings, (n, 64) bytes. The first bit of a code is the highest of its byte."""
    return np.packbits(embeddings @ _rotations(embeddings.shape[1]) > 0, axis=1)


def binary_codes(embeddings: Floats) -> list[str]:
    """Returns the code of each of (n, dim) embeddings as a string of 512 digits 0 and 1, PostgreSQL's `bit` format."""
    digits = np.unpackbits(codes_of(embeddings), axis=1) + ord("0")
    return [row.tobytes().decode() for row in digits]


def binary_code(embedding: Floats) -> str:
    """Returns the code of one (dim,) embedding."""
    return binary_codes(embedding[None])[0]


@cache
def _rotations(dim: int) -> Floats:
    """Returns (dim, 512): the first columns of one rotation, or of several side by side."""
    side = 1 << (dim - 1).bit_length()
    rotated = [np.diag(_signs(index, side))[:dim] for index in range(max(1, CODE_BITS // side))]
    return np.concatenate([_hadamard(rows) for rows in rotated], axis=1)[:, :CODE_BITS].copy()


@cache
def _signs(index: int, side: int) -> Floats:
    """Returns (side,) random values of 1 and -1, the same in every process."""
    data = b"".join(hashlib.sha256(f"{index}/{side}/{block}".encode()).digest() for block in range(-(-side // 256)))
    return np.unpackbits(np.frombuffer(data, np.uint8))[:side].astype(np.float32) * 2 - 1


def _hadamard(rows: Floats) -> Floats:
    """Multiplies each of (n, 2**k) rows by the Hadamard matrix in k steps (fast Walsh-Hadamard transform)."""
    count, side = rows.shape
    step = 1
    while step < side:
        pairs = rows.reshape(count, side // (2 * step), 2, step)
        rows = np.stack([pairs[:, :, 0] + pairs[:, :, 1], pairs[:, :, 0] - pairs[:, :, 1]], axis=2).reshape(count, side)
        step *= 2
    return rows
