"""Templates of identities: lists, deletes, samples and compares them."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Row, delete, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import TemplateNotFound
from service.gallery.index import centroids
from service.gallery.people import crops
from service.gallery.storage.paging import PageCursor, after_cursor
from service.gallery.storage.tables import identity, shown_external_id, template

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class StoredTemplate:
    """A template. The embedding is not read from the database."""

    id: uuid.UUID
    model_id: str
    box: list[float]
    detection_score: float
    quality: float | None
    manual: bool
    created_at: datetime


async def page(
    connection: AsyncConnection,
    collection_id: uuid.UUID,
    identity_id: uuid.UUID,
    model_id: str,
    limit: int | None = None,
    after: PageCursor | None = None,
) -> list[StoredTemplate]:
    """Returns up to `limit` templates of an identity under a model, oldest first, beginning after a cursor."""
    columns = [template.c[field.name] for field in fields(StoredTemplate)]
    statement = select(*columns).where(
        template.c.collection_id == collection_id,
        template.c.identity_id == identity_id,
        template.c.model_id == model_id,
    )
    rows = await connection.execute(after_cursor(statement, template, after, limit))
    return [StoredTemplate(**row._mapping) for row in rows]


async def remove(
    connection: AsyncConnection, collection_id: uuid.UUID, identity_id: uuid.UUID, template_id: uuid.UUID
) -> int:
    """Deletes a template of a locked identity, the templates of other models for the same face, and its crop.

    Returns:
        The number of templates that remain under the template's model.

    Raises:
        TemplateNotFound
    """
    of_identity = template.c.collection_id == collection_id, template.c.identity_id == identity_id
    named = select(template.c.model_id, template.c.source_sha256).where(*of_identity, template.c.id == template_id)
    row = (await connection.execute(named)).one_or_none()
    if row is None:
        raise TemplateNotFound(f"the identity {identity_id} has no template {template_id}")
    same_face = delete(template).where(*of_identity, template.c.source_sha256 == row.source_sha256)
    models = (await connection.execute(same_face.returning(template.c.model_id))).scalars().all()
    await crops.delete(connection, collection_id, identity_id, [row.source_sha256])
    counts = await centroids.recompute(connection, collection_id, [identity_id], models)
    return counts.get((identity_id, row.model_id), 0)


async def sample(
    connection: AsyncConnection, collection_id: uuid.UUID, model_id: str, limit: int
) -> Sequence[Row[Any, Any, Any, Any, Any]]:
    """Returns a random sample of up to `limit` templates, sorted by identity.

    The columns are id, identity_id, external_id, label, embedding.
    """
    chosen = (
        select(template.c.id)
        .where(template.c.collection_id == collection_id, template.c.model_id == model_id)
        .order_by(func.random())
        .limit(limit)
    )
    statement = (
        select(
            template.c.id, template.c.identity_id, shown_external_id(identity), identity.c.label, template.c.embedding
        )
        .join(identity, (identity.c.collection_id == collection_id) & (identity.c.id == template.c.identity_id))
        .where(template.c.collection_id == collection_id, template.c.id.in_(chosen))
        .order_by(identity.c.external_id, template.c.created_at, template.c.id)
    )
    return (await connection.execute(statement)).all()


async def best_score(
    connection: AsyncConnection, collection_id: uuid.UUID, identity_id: uuid.UUID, model_id: str, probe: Floats
) -> tuple[float, int] | None:
    """Compares a probe with an identity's templates.

    Returns:
        The highest cosine similarity and the number of templates; None if there is no template of this model.
    """
    statement = select(func.max(-template.c.embedding.max_inner_product(probe)), func.count()).where(
        template.c.collection_id == collection_id,
        template.c.identity_id == identity_id,
        template.c.model_id == model_id,
    )
    score, count = (await connection.execute(statement)).one()
    return None if score is None else (score, count)
