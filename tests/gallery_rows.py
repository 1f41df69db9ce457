"""Stores identities and templates directly in the database, for tests that need neither pictures nor models."""

import uuid
from collections.abc import Sequence

import numpy as np
from sqlalchemy import ColumnElement, bindparam, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.gallery.enrolment import store as enrolment
from service.gallery.enrolment.records import AddedTemplate, NewTemplate
from service.gallery.people.collections import Collection
from service.gallery.search.nearest import SearchOptions, nearest
from service.gallery.search.results import SearchPlan, SearchResult
from service.gallery.storage.database import Database
from service.gallery.storage.tables import identity

DIM = 16
BOX = (0.0, 0.0, 1.0, 1.0)


def unit(random: np.random.Generator, *shape: int, dim: int = DIM) -> np.ndarray:
    """Returns (*shape, dim) random float32 vectors of length 1."""
    vectors = random.normal(size=(*shape, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


async def create_identity(
    connection: AsyncConnection, collection_id: uuid.UUID, external_id: str, **values: object
) -> uuid.UUID:
    """Inserts or locks an identity and returns its id."""
    locked = await enrolment.lock_or_create(connection, collection_id, external_id, **values)
    assert locked is not None
    return locked[0].id


async def add_templates(
    connection: AsyncConnection,
    collection_id: uuid.UUID,
    identity_id: uuid.UUID,
    model_id: str,
    embeddings: np.ndarray,
    sources: list[bytes] | None = None,
) -> list[AddedTemplate]:
    """Stores (n, dim) embeddings of a locked identity, and its centroid.

    Args:
        sources: n hashes of 32 bytes that identify the faces; None: random ones.
    """
    sources = sources or _random_sources(len(embeddings))
    return await enrolment.add_templates(
        connection, collection_id, identity_id, _templates(model_id, embeddings, sources)
    )


async def enrol(
    database: Database,
    collection: Collection,
    external_id: str,
    embeddings: np.ndarray,
    model_ids: Sequence[str] | None = None,
) -> uuid.UUID:
    """Enrols (n, dim) embeddings as n faces of an identity, in one transaction. Returns the id of the identity.

    Args:
        model_ids: every embedding is stored under each of these models; None: under the active model.
    """
    sources = _random_sources(len(embeddings))
    templates = [
        item for model_id in model_ids or [collection.model_id] for item in _templates(model_id, embeddings, sources)
    ]
    async with database.transaction(collection_id=collection.id) as connection:
        identity_id = await create_identity(connection, collection.id, external_id)
        await enrolment.add_templates(connection, collection.id, identity_id, templates)
    return identity_id


async def filled(database: Database, collection: Collection, count: int, seed: int) -> np.ndarray:
    """Enrols people with one random embedding each, as p0, p1, …; returns the (count, dim) embeddings."""
    people = unit(np.random.default_rng(seed), count)
    for number, embedding in enumerate(people):
        await enrol(database, collection, f"p{number}", embedding[None])
    return people


async def mark(database: Database, collection: Collection, count: int, field: str, modulus: int) -> None:
    """Sets the metadata of the first `count` people to the remainder of their number."""
    of_person = identity.c.collection_id == collection.id, identity.c.external_id == bindparam("person")
    rows = [{"person": f"p{number}", "marked": {field: number % modulus}} for number in range(count)]
    async with database.transaction(collection_id=collection.id) as connection:
        await connection.execute(update(identity).where(*of_person).values(metadata=bindparam("marked")), rows)


def _random_sources(count: int) -> list[bytes]:
    return [uuid.uuid4().bytes * 2 for _ in range(count)]


def _templates(model_id: str, embeddings: np.ndarray, sources: Sequence[bytes]) -> list[NewTemplate]:
    return [
        NewTemplate(model_id, source, embedding, BOX, 0.9, 0.5)
        for source, embedding in zip(sources, embeddings, strict=True)
    ]


async def nearest_to(
    connection: AsyncConnection,
    collection_id: uuid.UUID,
    probe: np.ndarray,
    top_k: int,
    condition: ColumnElement[bool] | None = None,
    plan: SearchPlan | None = None,
) -> SearchResult:
    """Searches with one probe of the model `tiny`."""
    [result] = await nearest(connection, collection_id, "tiny", [probe], SearchOptions(top_k), condition, plan)
    return result
