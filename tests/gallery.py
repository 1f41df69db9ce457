"""Functions that enrol embeddings directly in the database, without pictures or models."""

import uuid
from collections.abc import Sequence

import numpy as np

from service.gallery.access.audit_entries import SERVICE, Action, Event
from service.gallery.people.collections import Collection
from service.gallery.people.enrolment import add_templates, lock_or_create
from service.gallery.people.enrolment_records import NewEnrolment, NewTemplate
from service.gallery.storage.database import Database

BOX = (0.0, 0.0, 1.0, 1.0)


def unit(random: np.random.Generator, count: int, dim: int = 16) -> np.ndarray:
    """Returns (count, dim) random float32 vectors of length 1."""
    vectors = random.normal(size=(count, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


async def enrol(
    database: Database,
    collection: Collection,
    external_id: str,
    embeddings: np.ndarray,
    model_ids: Sequence[str] | None = None,
) -> uuid.UUID:
    """Enrols each of (n, dim) embeddings as a template of an identity. Returns the id of the identity.

    Args:
        model_ids: store every embedding under each of these models; None: under the active model.
    """
    sources = [uuid.uuid4().bytes * 2 for _ in embeddings]
    templates = [
        NewTemplate(model_id, source, embedding, BOX, 0.9, 0.5)
        for model_id in model_ids or [collection.model_id]
        for source, embedding in zip(sources, embeddings, strict=True)
    ]
    enrolment = NewEnrolment(
        collection=collection,
        external_id=external_id,
        label=None,
        metadata=None,
        retain_until=None,
        templates=templates,
        encrypted_crops={},
        duplicate_check=None,
        event=lambda result: Event(Action.ENROL, SERVICE, result.identity.id),
    )
    async with database.transaction(collection_id=collection.id) as connection:
        row, _ = await lock_or_create(connection, enrolment)
        await add_templates(connection, collection.id, row.id, templates)
    return row.id
