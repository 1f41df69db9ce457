"""Rows of the gallery for tests that need no pictures."""

import uuid

import numpy as np
from sqlalchemy.ext.asyncio import AsyncConnection

from service.gallery.people import enrolment
from service.gallery.people.enrolment_records import AddedTemplate, NewTemplate

BOX = (0.0, 0.0, 1.0, 1.0)


async def create_identity(
    connection: AsyncConnection, collection_id: uuid.UUID, external_id: str, **values: object
) -> uuid.UUID:
    """Inserts or locks an identity and returns its id."""
    row, _ = await enrolment.lock_or_create(connection, collection_id, external_id, **values)
    return row.id


async def add_templates(
    connection: AsyncConnection,
    collection_id: uuid.UUID,
    identity_id: uuid.UUID,
    model_id: str,
    embeddings: np.ndarray,
    sources: list[bytes] | None = None,
) -> list[AddedTemplate]:
    """Stores (n, dim) embeddings of a locked identity under random sources, and its centroid."""
    sources = sources or [uuid.uuid4().bytes * 2 for _ in embeddings]
    templates = [
        NewTemplate(model_id, source, embedding, BOX, 0.9, 0.5)
        for source, embedding in zip(sources, embeddings, strict=True)
    ]
    return await enrolment.add_templates(connection, collection_id, identity_id, templates)
