"""Keeps the templates that represent an identity best, when it has more than the maximum."""

import uuid
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import TemplateNotKept
from service.gallery.index import centroids
from service.gallery.people import crops, identities
from service.gallery.people.collections import Collection
from service.gallery.people.identities import Identity
from service.gallery.storage.tables import template

Floats = npt.NDArray[np.float32]
CONSIDERED = 2_000
"""Templates of the highest quality among which the most similar ones are dropped: comparing more pairs is slow."""
UNKNOWN_QUALITY = 0.5


async def prune(
    connection: AsyncConnection, collection_id: uuid.UUID, identity_id: uuid.UUID, model_id: str, maximum: int
) -> set[bytes]:
    """Deletes templates of a locked identity until it has `maximum` under the model.

    The templates of other models for the deleted faces, and their crops, are deleted as well, and the identity's
    centroids are computed again.

    Returns:
        The `source_sha256` of the templates that are kept.
    """
    of_identity = template.c.collection_id == collection_id, template.c.identity_id == identity_id
    columns = template.c.source_sha256, template.c.embedding, template.c.quality
    best = select(*columns).where(*of_identity, template.c.model_id == model_id)
    best = best.order_by(template.c.quality.desc().nulls_last(), template.c.created_at, template.c.id).limit(CONSIDERED)
    rows = (await connection.execute(best)).all()
    qualities = [UNKNOWN_QUALITY if row.quality is None else row.quality for row in rows]
    kept = [rows[index] for index in most_representative(np.stack([row.embedding for row in rows]), qualities, maximum)]
    kept_sources = [row.source_sha256 for row in kept]
    # The database selects the faces to delete: a merge can have more of them than a statement can have parameters.
    current = template.alias("current")
    dropped = select(current.c.source_sha256).where(
        current.c.collection_id == collection_id,
        current.c.identity_id == identity_id,
        current.c.model_id == model_id,
        current.c.source_sha256.not_in(kept_sources),
    )
    models = await connection.execute(select(template.c.model_id).where(*of_identity).distinct())
    await crops.delete(connection, collection_id, identity_id, dropped)
    await connection.execute(delete(template).where(*of_identity, template.c.source_sha256.in_(dropped)))
    await centroids.recompute(connection, collection_id, [identity_id], sorted(models.scalars()))
    return set(kept_sources)


async def limit(connection: AsyncConnection, collection: Collection, identity_id: uuid.UUID, maximum: int) -> Identity:
    """Returns a locked identity, after deleting the templates that exceed `maximum` under the active model."""
    current = await identities.get(connection, collection.id, identity_id)
    if current.template_count <= maximum:
        return current
    await prune(connection, collection.id, identity_id, collection.model_id, maximum)
    return replace(current, template_count=maximum)


def not_kept() -> TemplateNotKept:
    return TemplateNotKept("the identity has the maximum number of templates, and each represents it better")


def most_representative(embeddings: Floats, qualities: Sequence[float], maximum: int) -> list[int]:
    """Returns the indices of `maximum` templates, in ascending order.

    It drops, one after the other, the template of lower quality of the most similar pair, so that the kept ones are
    diverse and of high quality. Of equal qualities it drops the later template.

    Args:
        embeddings: (n, dim) normalised.
    """
    similarity = embeddings @ embeddings.T
    np.fill_diagonal(similarity, -np.inf)
    kept = np.ones(len(embeddings), bool)
    nearest, highest = similarity.argmax(axis=1), similarity.max(axis=1)
    for _ in range(len(embeddings) - maximum):
        one = int(np.where(kept, highest, -np.inf).argmax())
        other = int(nearest[one])
        dropped = max((one, other), key=lambda index: (-qualities[index], index))
        kept[dropped] = False
        similarity[:, dropped] = -np.inf
        for index in np.flatnonzero(kept & (nearest == dropped)):
            nearest[index], highest[index] = similarity[index].argmax(), similarity[index].max()
    return [int(index) for index in np.flatnonzero(kept)]
