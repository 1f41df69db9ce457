"""Faces that are said not to be a person's: later searches look whether a probe is nearer to one of them."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime

import numpy as np
import numpy.typing as npt
from sqlalchemy import delete, exists, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import CorrectionNotFound
from service.gallery.paging import Place, after_place
from service.gallery.tables import correction, template

SURELY_SAME = 0.5
"""Cosine from which on a correction is taken for a picture of a person. One taken too many is a correction less."""
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Correction:
    """Without its embedding, which stays in the database."""

    id: uuid.UUID
    model_id: str
    created_at: datetime


async def add(
    connection: AsyncConnection, collection_id: uuid.UUID, identity_id: uuid.UUID, model_id: str, embedding: Floats
) -> Correction:
    """Keep that a face is not a locked person's."""
    values = {
        "collection_id": collection_id,
        "id": uuid.uuid4(),
        "identity_id": identity_id,
        "model_id": model_id,
        "dim": len(embedding),
        "embedding": embedding,
    }
    columns = [correction.c[field.name] for field in fields(Correction)]
    row = (await connection.execute(insert(correction).values(values).returning(*columns))).one()
    return Correction(**row._mapping)


async def page(
    connection: AsyncConnection,
    collection_id: uuid.UUID,
    identity_id: uuid.UUID,
    limit: int,
    after: Place | None = None,
) -> Sequence[Correction]:
    """Up to `limit` of a person's corrections, oldest first, beginning after a place."""
    columns = [correction.c[field.name] for field in fields(Correction)]
    statement = select(*columns).where(
        correction.c.collection_id == collection_id, correction.c.identity_id == identity_id
    )
    return [
        Correction(**row._mapping) for row in await connection.execute(after_place(statement, correction, after, limit))
    ]


async def remove(
    connection: AsyncConnection, collection_id: uuid.UUID, identity_id: uuid.UUID, correction_id: uuid.UUID
) -> None:
    """Raises CorrectionNotFound."""
    statement = delete(correction).where(
        correction.c.collection_id == collection_id,
        correction.c.identity_id == identity_id,
        correction.c.id == correction_id,
    )
    if (await connection.execute(statement)).rowcount == 0:
        raise CorrectionNotFound(f"identity {identity_id} has no correction {correction_id}")


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


async def forget_faces(
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
    return (await connection.execute(statement)).rowcount
