"""Faces that are said not to be a person's: later searches look whether a probe is nearer to one of them."""

import hashlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime

import numpy as np
import numpy.typing as npt
from sqlalchemy import delete, exists, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import CorrectionNotFound
from service.gallery.people import crops
from service.gallery.storage.paging import PageCursor, after_cursor
from service.gallery.storage.tables import correction, template

SURELY_SAME = 0.5
"""Cosine from which on a correction is taken for a picture of a person. One taken too many is a correction less."""
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Correction:
    """Without its embedding, which stays in the database."""

    id: uuid.UUID
    model_id: str
    created_at: datetime


def source_of(face_sha256: bytes) -> bytes:
    """Tells a correction's face from the same one as somebody's template."""
    return hashlib.sha256(b"correction" + face_sha256).digest()


async def add(
    connection: AsyncConnection,
    collection_id: uuid.UUID,
    identity_id: uuid.UUID,
    model_id: str,
    embedding: Floats,
    source_sha256: bytes | None = None,
) -> Correction:
    """Keep that a face is not a locked person's."""
    values = {
        "collection_id": collection_id,
        "id": uuid.uuid4(),
        "identity_id": identity_id,
        "model_id": model_id,
        "dim": len(embedding),
        "embedding": embedding,
        "source_sha256": source_sha256,
    }
    columns = [correction.c[field.name] for field in fields(Correction)]
    row = (await connection.execute(insert(correction).values(values).returning(*columns))).one()
    return Correction(**row._mapping)


async def page(
    connection: AsyncConnection,
    collection_id: uuid.UUID,
    identity_id: uuid.UUID,
    model_id: str,
    limit: int,
    after: PageCursor | None = None,
) -> Sequence[Correction]:
    """Up to `limit` of a person's corrections under a model, oldest first, beginning after a place."""
    columns = [correction.c[field.name] for field in fields(Correction)]
    statement = select(*columns).where(
        correction.c.collection_id == collection_id,
        correction.c.identity_id == identity_id,
        correction.c.model_id == model_id,
    )
    return [
        Correction(**row._mapping) for row in await connection.execute(after_cursor(statement, correction, after, limit))
    ]


async def remove(
    connection: AsyncConnection, collection_id: uuid.UUID, identity_id: uuid.UUID, correction_id: uuid.UUID
) -> None:
    """Take a correction back, under every model, and its crop. Raises CorrectionNotFound."""
    is_theirs = correction.c.collection_id == collection_id, correction.c.identity_id == identity_id
    named = delete(correction).where(*is_theirs, correction.c.id == correction_id)
    gone = (await connection.execute(named.returning(correction.c.source_sha256))).one_or_none()
    if gone is None:
        raise CorrectionNotFound(f"identity {identity_id} has no correction {correction_id}")
    if gone.source_sha256 is not None:
        same_face = delete(correction).where(*is_theirs, correction.c.source_sha256 == gone.source_sha256)
        await connection.execute(same_face)
        await crops.delete(connection, collection_id, identity_id, [gone.source_sha256])


async def nearest_score(
    connection: AsyncConnection, collection_id: uuid.UUID, identity_id: uuid.UUID, model_id: str, probe: Floats
) -> float | None:
    """Cosine of the probe to the nearest face that is said not to be the person's; None: there is none."""
    statement = select(func.max(-correction.c.embedding.max_inner_product(probe))).where(
        correction.c.collection_id == collection_id,
        correction.c.identity_id == identity_id,
        correction.c.model_id == model_id,
    )
    return (await connection.execute(statement)).scalar_one()


def overrules(counter_score: float | None, score: float) -> bool:
    """Whether a probe is nearer to what is not the person than to the person (the nearest neighbour decides)."""
    return counter_score is not None and counter_score > score


async def delete_showing(
    connection: AsyncConnection,
    collection_id: uuid.UUID,
    identity_ids: Sequence[uuid.UUID],
    among: Sequence[uuid.UUID] | None = None,
) -> int:
    """Delete corrections that show one of these people; how many. `among`: only those that are kept with these."""
    shown = exists().where(
        template.c.collection_id == collection_id,
        template.c.identity_id.in_(identity_ids),
        template.c.model_id == correction.c.model_id,
        template.c.embedding.max_inner_product(correction.c.embedding) <= -SURELY_SAME,
    )
    statement = delete(correction).where(correction.c.collection_id == collection_id, shown)
    if among is not None:
        statement = statement.where(correction.c.identity_id.in_(among))
    gone = await connection.execute(statement.returning(correction.c.identity_id, correction.c.source_sha256))
    rows = gone.all()
    forgotten = len(rows)
    for row in rows:
        if row.source_sha256 is None:
            continue
        # One model may have taken the face for theirs and another not: it is forgotten under all of them.
        same_face = correction.c.identity_id == row.identity_id, correction.c.source_sha256 == row.source_sha256
        others = delete(correction).where(correction.c.collection_id == collection_id, *same_face)
        forgotten += (await connection.execute(others)).rowcount
        await crops.delete(connection, collection_id, row.identity_id, [row.source_sha256])
    return forgotten
