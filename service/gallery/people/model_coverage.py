"""Compares the templates of a collection's two models and stores the missing ones of the secondary model."""

import uuid
from collections.abc import Collection as Several
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import ColumnElement, Select, Table, Text, cast, exists, func, insert, null, select, text, union
from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import Conflict
from service.gallery.index import centroids
from service.gallery.people import identities
from service.gallery.people.collections import Collection
from service.gallery.people.identities import Identity
from service.gallery.storage.paging import PageCursor
from service.gallery.storage.tables import centroid, correction, identity, template

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ReembeddedFace:
    """The secondary model's embedding of an enrolled face, (dim,) float32, and its quality, 0 to 1."""

    embedding: Floats
    quality: float | None


@dataclass(frozen=True, slots=True)
class Coverage:
    """The identities with a template of the active model, compared with the secondary model.

    Attributes:
        identities: those with a template of the active model.
        missing: of them, those without any template of the secondary model; they need new photos.
        partial: of them, those with fewer templates of the secondary model than of the active one.
        corrections_missing: corrections without an embedding of the secondary model.
    """

    identities: int
    missing: int
    partial: int
    corrections_missing: int

    @property
    def complete(self) -> bool:
        """True if the activation loses no identity and no correction."""
        return self.missing == 0 and self.corrections_missing == 0


def required(collection: Collection) -> str:
    """Returns the secondary model. Raises Conflict."""
    if collection.secondary_model_id is None:
        raise Conflict(
            f"the collection {collection.name!r} has no secondary model; start a migration with "
            f"POST /collections/{collection.name}/model-migration"
        )
    return collection.secondary_model_id


async def coverage(connection: AsyncConnection, collection: Collection) -> Coverage:
    """Compares the centroids of both models; takes about a second for a million identities. Raises Conflict."""
    await disable_nested_loops(connection)
    active, secondary = centroid.alias("active"), centroid.alias("secondary")
    same = (
        (secondary.c.collection_id == collection.id)
        & (secondary.c.identity_id == active.c.identity_id)
        & (secondary.c.model_id == required(collection))
    )
    statement = (
        select(
            func.count(),
            func.count().filter(secondary.c.identity_id.is_(None)),
            func.count().filter(secondary.c.template_count < active.c.template_count),
        )
        .select_from(active.outerjoin(secondary, same))
        .where(active.c.collection_id == collection.id, active.c.model_id == collection.model_id)
    )
    total, missing, partial = (await connection.execute(statement)).one()
    corrections = select(func.count()).where(_not_reembedded(collection, correction))
    return Coverage(total, missing, partial, (await connection.execute(corrections)).scalar_one())


async def people_missing(
    connection: AsyncConnection, collection: Collection, limit: int, after: PageCursor | None = None
) -> list[Identity]:
    """Returns up to `limit` identities without a template of the secondary model, in the order of their creation."""
    await disable_nested_loops(connection)
    condition = _has_centroid(collection.model_id) & ~_has_centroid(required(collection))
    return await identities.page(connection, collection.id, limit, after, condition=condition)


async def disable_nested_loops(connection: AsyncConnection) -> None:
    """Disables nested loops until the transaction ends, for statements that compare the two models.

    Without statistics (after an import, a restore or pg_upgrade) PostgreSQL assumes empty tables and reads one model's
    rows once for each identity: 90 s for 20,000 identities instead of 0.1 s.
    """
    await connection.execute(text("SET LOCAL enable_nestloop = off"))


def identities_to_reembed(collection: Collection) -> Select[tuple[int, str, str, str | None]]:
    """Returns a query for the identities with a face that is not re-embedded.

    Its columns are the number from 0, the id, and the external id in its two forms.
    """
    incomplete = union(
        select(template.c.identity_id).where(_not_reembedded(collection, template)),
        select(correction.c.identity_id).where(_not_reembedded(collection, correction)),
    )
    number = func.row_number().over(order_by=(identity.c.created_at, identity.c.id)) - 1
    names = identity.c.external_id, identity.c.external_id_sent
    return select(number, cast(identity.c.id, Text), *names).where(
        identity.c.collection_id == collection.id, identity.c.id.in_(incomplete)
    )


async def missing_faces(
    connection: AsyncConnection, collection: Collection, identity_ids: Several[uuid.UUID]
) -> dict[uuid.UUID, set[bytes]]:
    """Returns the `source_sha256` of the faces that the secondary model has not embedded, by identity."""
    missing: dict[uuid.UUID, set[bytes]] = {identity_id: set() for identity_id in identity_ids}
    for table in (template, correction):
        statement = select(table.c.identity_id, table.c.source_sha256).where(
            _not_reembedded(collection, table),
            table.c.identity_id.in_(identity_ids),
            table.c.source_sha256.is_not(None),
        )
        for face in await connection.execute(statement):
            missing[face.identity_id].add(face.source_sha256)
    return missing


async def stored_faces(
    connection: AsyncConnection, collection: Collection, identity_ids: Several[uuid.UUID]
) -> dict[uuid.UUID, dict[bytes, ReembeddedFace]]:
    """Returns the active model's embeddings of the faces of `missing_faces`, by identity and `source_sha256`."""
    faces: dict[uuid.UUID, dict[bytes, ReembeddedFace]] = {identity_id: {} for identity_id in identity_ids}
    for table, quality in ((correction, null()), (template, template.c.quality)):
        columns = table.c.identity_id, table.c.source_sha256, table.c.embedding, quality.label("quality")
        statement = select(*columns).where(
            _not_reembedded(collection, table),
            table.c.identity_id.in_(identity_ids),
            table.c.source_sha256.is_not(None),
        )
        for row in await connection.execute(statement):
            embedding = np.asarray(row.embedding, np.float32)
            faces[row.identity_id][row.source_sha256] = ReembeddedFace(embedding, row.quality)
    return faces


async def store_reembedded(
    connection: AsyncConnection, collection: Collection, faces: Mapping[uuid.UUID, Mapping[bytes, ReembeddedFace]]
) -> None:
    """Stores the secondary model's embeddings of faces that are still missing. Deleted identities stay deleted.

    Args:
        faces: by identity and `source_sha256`.
    """
    await identities.lock_all(connection, collection.id, faces.keys())
    model_id = required(collection)
    for table in (template, correction):
        statement = select(table).where(_not_reembedded(collection, table), table.c.identity_id.in_(faces))
        new = []
        for old in await connection.execute(statement):
            if (face := faces[old.identity_id].get(old.source_sha256)) is None:
                continue
            values = {"id": uuid.uuid4(), "model_id": model_id, "dim": len(face.embedding), "embedding": face.embedding}
            new.append(dict(old._mapping) | values | ({"quality": face.quality} if table is template else {}))
        if new:
            await connection.execute(insert(table), new)
    await centroids.recompute(connection, collection.id, faces.keys(), [model_id])


def _not_reembedded(collection: Collection, table: Table) -> ColumnElement[bool]:
    """Returns the condition: a row of the active model has no row of the secondary model for the same face."""
    secondary = table.alias("secondary")
    is_stored = exists().where(
        secondary.c.collection_id == collection.id,
        secondary.c.identity_id == table.c.identity_id,
        secondary.c.model_id == required(collection),
        secondary.c.source_sha256 == table.c.source_sha256,
    )
    return (table.c.collection_id == collection.id) & (table.c.model_id == collection.model_id) & ~is_stored


def _has_centroid(model_id: str) -> ColumnElement[Any]:
    return exists().where(
        centroid.c.collection_id == identity.c.collection_id,
        centroid.c.identity_id == identity.c.id,
        centroid.c.model_id == model_id,
    )
