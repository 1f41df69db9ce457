"""Raw embeddings, and the centroid of each identity, which is always what its templates give."""

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Row, delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import TemplateNotFound
from service.gallery.index import codes
from service.gallery.people import crops
from service.gallery.storage.paging import PageCursor, after_cursor
from service.gallery.storage.tables import centroid, identity, template

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class NewTemplate:
    """One face sample to store. `source_sha256`: of picture and place of the face in it, so that it is known again."""

    source_sha256: bytes
    embedding: Floats
    box: tuple[float, float, float, float]
    detection_score: float
    quality: float | None


@dataclass(frozen=True, slots=True)
class StoredTemplate:
    """What can be told of a template. Its embedding stays in the database."""

    id: uuid.UUID
    model_id: str
    box: list[float]
    detection_score: float
    quality: float | None
    created_at: datetime


async def add(
    connection: AsyncConnection,
    collection_id: uuid.UUID,
    identity_id: uuid.UUID,
    model_id: str,
    samples: Sequence[NewTemplate],
) -> list[uuid.UUID | None]:
    """Store samples of a locked identity; the id of each, or None where the same picture is stored already."""
    ids: list[uuid.UUID | None] = []
    for sample in samples:
        values = {
            "collection_id": collection_id,
            "id": uuid.uuid4(),
            "identity_id": identity_id,
            "model_id": model_id,
            "dim": len(sample.embedding),
            "embedding": sample.embedding,
            "source_sha256": sample.source_sha256,
            "box": list(sample.box),
            "detection_score": sample.detection_score,
            "quality": sample.quality,
        }
        statement = insert(template).values(values).on_conflict_do_nothing().returning(template.c.id)
        ids.append((await connection.execute(statement)).scalar_one_or_none())
    return ids


async def list_of(
    connection: AsyncConnection,
    collection_id: uuid.UUID,
    identity_id: uuid.UUID,
    model_id: str,
    limit: int | None = None,
    after: PageCursor | None = None,
) -> Sequence[StoredTemplate]:
    """A person's templates of a model without their embeddings, oldest first; up to `limit`, after a place."""
    columns = [template.c[field.name] for field in fields(StoredTemplate)]
    statement = select(*columns).where(
        template.c.collection_id == collection_id,
        template.c.identity_id == identity_id,
        template.c.model_id == model_id,
    )
    return [
        StoredTemplate(**row._mapping)
        for row in await connection.execute(after_cursor(statement, template, after, limit))
    ]


async def remove(
    connection: AsyncConnection, collection_id: uuid.UUID, identity_id: uuid.UUID, template_id: uuid.UUID
) -> int:
    """Delete one template of a locked identity and bring the centroid up to date; how many of its model are left.

    What other models made of the same face goes along, and its crop.

    Raises:
        TemplateNotFound
    """
    is_theirs = template.c.collection_id == collection_id, template.c.identity_id == identity_id
    named = select(template.c.model_id, template.c.source_sha256).where(*is_theirs, template.c.id == template_id)
    found = (await connection.execute(named)).one_or_none()
    if found is None:
        raise TemplateNotFound(f"identity {identity_id} has no template {template_id}")
    same_face = delete(template).where(*is_theirs, template.c.source_sha256 == found.source_sha256)
    models = (await connection.execute(same_face.returning(template.c.model_id))).scalars().all()
    await crops.delete(connection, collection_id, identity_id, [found.source_sha256])
    left = {name: await recompute_centroid(connection, collection_id, identity_id, name) for name in models}
    return left[found.model_id]


async def sample(
    connection: AsyncConnection, collection_id: uuid.UUID, model_id: str, at_most: int
) -> Sequence[Row[Any, Any, Any]]:
    """(id, external_id, embedding) of a collection's templates by person; of more than `at_most`, some at random."""
    chosen = (
        select(template.c.id)
        .where(template.c.collection_id == collection_id, template.c.model_id == model_id)
        .order_by(func.random())
        .limit(at_most)
    )
    statement = (
        select(template.c.id, identity.c.external_id, template.c.embedding)
        .join(identity, (identity.c.collection_id == collection_id) & (identity.c.id == template.c.identity_id))
        .where(template.c.collection_id == collection_id, template.c.id.in_(chosen))
        .order_by(identity.c.external_id, template.c.created_at, template.c.id)
    )
    return (await connection.execute(statement)).all()


async def recompute_centroid(
    connection: AsyncConnection, collection_id: uuid.UUID, identity_id: uuid.UUID, model_id: str
) -> int:
    """Set a locked identity's centroid to the normalised mean of its templates; how many there are.

    A person without templates has no centroid.
    """
    return (await recompute_centroids(connection, collection_id, [identity_id], model_id))[identity_id]


async def recompute_centroids(
    connection: AsyncConnection, collection_id: uuid.UUID, identity_ids: Collection[uuid.UUID], model_id: str
) -> dict[uuid.UUID, int]:
    """As `recompute_centroid`, of several people at once."""
    of_model = template.c.collection_id == collection_id, template.c.model_id == model_id
    statement = (
        select(template.c.identity_id, template.c.embedding)
        .where(*of_model, template.c.identity_id.in_(identity_ids))
        .order_by(template.c.created_at, template.c.id)
    )
    embeddings: dict[uuid.UUID, list[Floats]] = {identity_id: [] for identity_id in identity_ids}
    for row in await connection.execute(statement):
        embeddings[row.identity_id].append(np.asarray(row.embedding, np.float32))
    means = {identity_id: centroid_of(np.stack(theirs)) for identity_id, theirs in embeddings.items() if theirs}
    if means:
        key = {"collection_id": collection_id, "model_id": model_id}
        coded = codes.codes_of(np.stack(list(means.values())))
        rows = [
            key
            | {"identity_id": identity_id, "dim": len(mean), "embedding": mean, "code": code}
            | {"template_count": len(embeddings[identity_id])}
            for (identity_id, mean), code in zip(means.items(), coded, strict=True)
        ]
        made = insert(centroid).values(rows)
        changes = {name: made.excluded[name] for name in ("dim", "embedding", "template_count", "code")}
        key_columns = ["collection_id", "identity_id", "model_id"]
        await connection.execute(made.on_conflict_do_update(index_elements=key_columns, set_=changes))
    if nobody := embeddings.keys() - means.keys():
        of_centroid = centroid.c.collection_id == collection_id, centroid.c.model_id == model_id
        await connection.execute(delete(centroid).where(*of_centroid, centroid.c.identity_id.in_(nobody)))
    return {identity_id: len(theirs) for identity_id, theirs in embeddings.items()}


def centroid_of(embeddings: Floats) -> Floats:
    """The L2-normalised mean of (n, dim) normalised embeddings.

    Embeddings that cancel each other out have no direction in common; then the first one stands for all.
    """
    mean = embeddings.mean(axis=0, dtype=np.float64)
    length = float(np.linalg.norm(mean))
    if length < 1e-6:
        return embeddings[0]
    return (mean / length).astype(np.float32)


async def best_score(
    connection: AsyncConnection, collection_id: uuid.UUID, identity_id: uuid.UUID, model_id: str, probe: Floats
) -> tuple[float, int] | None:
    """Cosine of the probe to the nearest of an identity's templates, and how many it has; None: none of this model."""
    statement = select(func.max(-template.c.embedding.max_inner_product(probe)), func.count()).where(
        template.c.collection_id == collection_id,
        template.c.identity_id == identity_id,
        template.c.model_id == model_id,
    )
    score, count = (await connection.execute(statement)).one()
    return None if score is None else (score, count)
