"""Corrections: faces that a user has marked as not belonging to an identity.

A probe that is nearer to a corrected face than to the identity's templates does not match the identity.
"""

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

SAME_PERSON = 0.5
"""Cosine similarity from which a corrected face is assumed to show an identity. The erasure of the identity deletes
such corrections. A wrong deletion loses a correction but no template."""
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Correction:
    """A correction. The embedding is not read from the database."""

    id: uuid.UUID
    model_id: str
    created_at: datetime


def source_of(face_sha256: bytes) -> bytes:
    """Returns the `source_sha256` of a corrected face. It differs from that of a template of the same face."""
    return hashlib.sha256(b"correction" + face_sha256).digest()


async def add(
    connection: AsyncConnection,
    collection_id: uuid.UUID,
    identity_id: uuid.UUID,
    embeddings: dict[str, Floats],
    source_sha256: bytes | None = None,
) -> list[Correction]:
    """Stores a face that does not show the locked identity.

    Args:
        embeddings: L2-normalised (dim,) embeddings of the face by model.

    Returns:
        One correction for each model, in the order of `embeddings`.
    """
    rows = [
        {
            "collection_id": collection_id,
            "id": uuid.uuid4(),
            "identity_id": identity_id,
            "model_id": model_id,
            "dim": len(embedding),
            "embedding": embedding,
            "source_sha256": source_sha256,
        }
        for model_id, embedding in embeddings.items()
    ]
    columns = [correction.c[field.name] for field in fields(Correction)]
    added = await connection.execute(insert(correction).values(rows).returning(*columns))
    by_model = {row.model_id: Correction(**row._mapping) for row in added}
    return [by_model[model_id] for model_id in embeddings]


async def page(
    connection: AsyncConnection,
    collection_id: uuid.UUID,
    identity_id: uuid.UUID,
    model_id: str,
    limit: int,
    after: PageCursor | None = None,
) -> list[Correction]:
    """Returns up to `limit` corrections of an identity under a model, oldest first, beginning after a cursor."""
    columns = [correction.c[field.name] for field in fields(Correction)]
    statement = select(*columns).where(
        correction.c.collection_id == collection_id,
        correction.c.identity_id == identity_id,
        correction.c.model_id == model_id,
    )
    rows = await connection.execute(after_cursor(statement, correction, after, limit))
    return [Correction(**row._mapping) for row in rows]


async def remove(
    connection: AsyncConnection, collection_id: uuid.UUID, identity_id: uuid.UUID, correction_id: uuid.UUID
) -> None:
    """Deletes a correction under every model, and its crop. Raises CorrectionNotFound."""
    of_identity = correction.c.collection_id == collection_id, correction.c.identity_id == identity_id
    named = delete(correction).where(*of_identity, correction.c.id == correction_id)
    row = (await connection.execute(named.returning(correction.c.source_sha256))).one_or_none()
    if row is None:
        raise CorrectionNotFound(f"the identity {identity_id} has no correction {correction_id}")
    if row.source_sha256 is not None:
        same_face = delete(correction).where(*of_identity, correction.c.source_sha256 == row.source_sha256)
        await connection.execute(same_face)
        await crops.delete(connection, collection_id, identity_id, [row.source_sha256])


async def nearest_score(
    connection: AsyncConnection, collection_id: uuid.UUID, identity_id: uuid.UUID, model_id: str, probe: Floats
) -> float | None:
    """Returns the cosine similarity of a probe to the nearest corrected face of an identity; None: it has none."""
    statement = select(func.max(-correction.c.embedding.max_inner_product(probe))).where(
        correction.c.collection_id == collection_id,
        correction.c.identity_id == identity_id,
        correction.c.model_id == model_id,
    )
    return (await connection.execute(statement)).scalar_one()


def overrules(counter_score: float | None, score: float) -> bool:
    """Returns True if a probe is nearer to a corrected face than to the identity's templates."""
    return counter_score is not None and counter_score > score


async def delete_showing(
    connection: AsyncConnection,
    collection_id: uuid.UUID,
    identity_ids: Sequence[uuid.UUID],
    of_identities: Sequence[uuid.UUID] | None = None,
) -> int:
    """Deletes the corrections whose face shows one of these identities, and their crops; returns the number of rows.

    Args:
        of_identities: delete only corrections that belong to these identities; None: of every identity.
    """
    shows_identity = exists().where(
        template.c.collection_id == collection_id,
        template.c.identity_id.in_(identity_ids),
        template.c.model_id == correction.c.model_id,
        template.c.embedding.max_inner_product(correction.c.embedding) <= -SAME_PERSON,
    )
    statement = delete(correction).where(correction.c.collection_id == collection_id, shows_identity)
    if of_identities is not None:
        statement = statement.where(correction.c.identity_id.in_(of_identities))
    deleted = await connection.execute(statement.returning(correction.c.identity_id, correction.c.source_sha256))
    rows = deleted.all()
    count = len(rows)
    for row in rows:
        if row.source_sha256 is None:
            continue
        # Another model may score the same face below SAME_PERSON; the face is deleted under every model.
        same_face = correction.c.identity_id == row.identity_id, correction.c.source_sha256 == row.source_sha256
        other_models = delete(correction).where(correction.c.collection_id == collection_id, *same_face)
        count += (await connection.execute(other_models)).rowcount
        await crops.delete(connection, collection_id, row.identity_id, [row.source_sha256])
    return count
