"""Stores an enrolment: the identity's row, its templates and centroids, and everything that must commit with them."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from pgvector.sqlalchemy import Vector
from sqlalchemy import (
    ARRAY,
    REAL,
    Integer,
    LargeBinary,
    Text,
    Uuid,
    cast,
    column,
    func,
    literal_column,
    select,
    union_all,
    values,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import CollectionNotFound, Conflict
from service.gallery.access.audit_trail import AuditTrail
from service.gallery.index import centroids
from service.gallery.index.centroids import Centroid
from service.gallery.people import collections, crops, idempotency
from service.gallery.people.collections import Collection, ModelsChangedError
from service.gallery.people.enrolment_records import AddedTemplate, EnrolmentResult, NewEnrolment, NewTemplate
from service.gallery.people.idempotency import StoredResponse
from service.gallery.people.identities import Identity
from service.gallery.search import duplicates
from service.gallery.search.planning import GallerySizes
from service.gallery.search.results import Candidate
from service.gallery.storage.database import Database
from service.gallery.storage.tables import identity, template


class _ResponseExistsError(Exception):
    """A concurrent request has stored a response under the same Idempotency-Key."""


@dataclass(frozen=True)
class EnrolmentStore:
    """Reads and writes of enrolments, each in one transaction."""

    database: Database
    audit_trail: AuditTrail
    sizes: GallerySizes

    async def begin(self, collection: str, idempotency_key: str | None) -> tuple[Collection, StoredResponse | None]:
        """Reads the collection and the response stored under the key. Raises CollectionNotFound."""
        async with self.database.transaction() as connection:
            row = await collections.get(connection, collection)
            if idempotency_key is None:
                return row, None
            return row, await idempotency.find(connection, row.id, idempotency_key)

    async def store(self, enrolment: NewEnrolment) -> EnrolmentResult | StoredResponse:
        """Stores everything, or nothing.

        Returns:
            The stored response instead if a concurrent request used the same Idempotency-Key.

        Raises:
            ModelsChangedError, CollectionNotFound
            Exception: the error of `DuplicateCheck.refuse`.
        """
        try:
            async with self.database.transaction() as connection:
                return await self._store(connection, enrolment)
        except _ResponseExistsError:
            key = enrolment.idempotency_key
            _, stored = await self.begin(enrolment.collection.name, key)
            if stored is None:
                raise Conflict(
                    "the identity of this Idempotency-Key is being changed; send the request again"
                ) from None
            return stored

    async def _store(self, connection: AsyncConnection, enrolment: NewEnrolment) -> EnrolmentResult:
        collection = await collections.get(connection, enrolment.collection.name, lock="share")
        if (collection.id, collection.models) != (enrolment.collection.id, enrolment.collection.models):
            raise ModelsChangedError
        candidates = await self._duplicates(connection, enrolment)
        row, created = await lock_or_create(
            connection,
            collection.id,
            enrolment.external_id,
            enrolment.label,
            enrolment.metadata,
            enrolment.retain_until,
        )
        others = [candidate for candidate in candidates if candidate.id != row.id]
        if others and created and enrolment.duplicate_check and enrolment.duplicate_check.refuse:
            raise enrolment.duplicate_check.refuse(others)
        added = await add_templates(connection, collection.id, row.id, enrolment.templates)
        await crops.store(connection, collection.id, row.id, enrolment.encrypted_crops)
        result = EnrolmentResult(
            _identity(row, collection.model_id, enrolment.templates, added), created, added, others
        )
        if enrolment.record is not None:
            await enrolment.record(connection, result)
        await self._store_response(connection, enrolment, result)
        await self.audit_trail.append(connection, collection.id, [enrolment.event(result)])
        return result

    async def _duplicates(self, connection: AsyncConnection, enrolment: NewEnrolment) -> list[Candidate]:
        """Searches before it takes the enrolment lock. Under the lock it compares recently changed identities only."""
        check, collection = enrolment.duplicate_check, enrolment.collection
        if check is None:
            return []
        is_duplicate = check.decide(await self.sizes.of(connection, collection.id, collection.model_id))
        scope = connection, collection.id, collection.model_id, check.probes, is_duplicate
        candidates = await duplicates.find(*scope)
        await collections.lock_enrolment(connection, collection.id)
        return duplicates.merge(candidates, await duplicates.find_recent(*scope))

    async def _store_response(
        self, connection: AsyncConnection, enrolment: NewEnrolment, result: EnrolmentResult
    ) -> None:
        if enrolment.idempotency_key is None or enrolment.response is None:
            return
        response = StoredResponse(enrolment.request_sha256, enrolment.response(result))
        scope = connection, enrolment.collection.id, enrolment.idempotency_key, result.identity.id
        if not await idempotency.store(*scope, response):
            raise _ResponseExistsError


async def lock_or_create(
    connection: AsyncConnection,
    collection_id: uuid.UUID,
    external_id: str,
    label: str | None = None,
    metadata: dict[str, Any] | None = None,
    retain_until: datetime | None = None,
) -> tuple[Any, bool]:
    """Inserts the identity or updates the existing one; its row stays locked until the transaction ends.

    The lock serialises concurrent enrolments of one identity, so that each computes the centroid from all templates.
    None leaves an existing identity's value unchanged.

    Returns:
        The identity's row, and True if it is new.

    Raises:
        CollectionNotFound: the collection was deleted while the pictures were observed.
    """
    values = {"label": label, "metadata": metadata, "retain_until": retain_until}
    changes = {name: value for name, value in values.items() if value is not None}
    defaults = {"label": external_id, "metadata": {}}
    new = {"collection_id": collection_id, "id": uuid.uuid4(), "external_id": external_id, **defaults, **changes}
    statement = (
        insert(identity)
        .values(new)
        .on_conflict_do_update(
            index_elements=["collection_id", "external_id"], set_={"updated_at": func.now(), **changes}
        )
        .returning(identity, literal_column("(xmax = 0)").label("created"))
    )
    try:
        row = (await connection.execute(statement)).one()
    except IntegrityError as error:
        raise CollectionNotFound("the collection was deleted during the request", pointer="/collection") from error
    return row, row.created


async def add_templates(
    connection: AsyncConnection, collection_id: uuid.UUID, identity_id: uuid.UUID, templates: Sequence[NewTemplate]
) -> list[AddedTemplate]:
    """Stores templates of a locked identity and its centroids, in two statements.

    The first statement inserts the templates that are not stored yet, compares each with the stored ones, and computes
    the normalised mean of all templates of each model. The second stores the means with their binary codes.
    """
    if not templates:
        return []
    rows = (await connection.execute(_adding(collection_id, identity_id, templates))).all()
    means: dict[str, Centroid] = {}
    for row, new in zip(rows, templates, strict=True):
        if row.id is not None and new.model_id not in means:
            mean = np.asarray(row.mean, np.float32)
            if row.mean_length < centroids.MIN_MEAN_LENGTH:
                scope = connection, collection_id, identity_id
                mean = await centroids.oldest_embedding(*scope, new.model_id)
            means[new.model_id] = Centroid(identity_id, new.model_id, mean, row.template_count)
    await centroids.store(connection, collection_id, list(means.values()))
    return [
        AddedTemplate(row.id, _highest(row.stored_similarity, templates, index), row.template_count)
        for index, row in enumerate(rows)
    ]


def _adding(collection_id: uuid.UUID, identity_id: uuid.UUID, templates: Sequence[NewTemplate]) -> Any:
    """Returns the statement; its rows are in the order of `templates`."""
    data = [
        (
            index,
            uuid.uuid4(),
            item.model_id,
            str(item.embedding.tolist()),
            item.source_sha256,
            list(item.box),
            item.detection_score,
            item.quality,
        )
        for index, item in enumerate(templates)
    ]
    new = select(
        values(
            column("position", Integer),
            column("id", Uuid),
            column("model_id", Text),
            column("vector", Text),
            column("source_sha256", LargeBinary),
            column("box", ARRAY(REAL)),
            column("detection_score", REAL),
            column("quality", REAL),
            name="given",
        ).data(data)
    ).cte("new")
    embedding = cast(new.c.vector, Vector())
    shared: list[Any] = [literal_column(f"'{collection_id}'::uuid"), literal_column(f"'{identity_id}'::uuid")]
    own = [new.c.id, new.c.model_id, func.vector_dims(embedding), embedding, new.c.source_sha256]
    # A VALUES column of NULLs only has the type text.
    measures = [cast(new.c.detection_score, REAL), cast(new.c.quality, REAL)]
    columns = [
        "collection_id",
        "identity_id",
        "id",
        "model_id",
        "dim",
        "embedding",
        "source_sha256",
        "box",
        "detection_score",
        "quality",
    ]
    inserted = (
        insert(template)
        .from_select(
            columns, select(*shared, *own, new.c.box, cast(new.c.detection_score, REAL), cast(new.c.quality, REAL))
        )
        .on_conflict_do_nothing()
        .returning(template.c.id, template.c.model_id, template.c.embedding)
        .cte("inserted")
    )
    stored = (
        select(template.c.model_id, template.c.embedding)
        .where(template.c.collection_id == collection_id, template.c.identity_id == identity_id)
        .where(template.c.model_id.in_({item.model_id for item in templates}))
        .cte("stored")
    )
    both = union_all(select(stored), select(inserted.c.model_id, inserted.c.embedding)).subquery("both")
    mean = func.avg(both.c.embedding, type_=Vector())
    means = (
        select(
            both.c.model_id,
            func.l2_normalize(mean, type_=Vector()).label("mean"),
            func.vector_norm(mean).label("mean_length"),
            func.count().label("template_count"),
        )
        .group_by(both.c.model_id)
        .cte("means")
    )
    similarity = select(func.max(-stored.c.embedding.max_inner_product(embedding))).where(
        stored.c.model_id == new.c.model_id
    )
    return (
        select(inserted.c.id, similarity.scalar_subquery().label("stored_similarity"), means)
        .select_from(new.outerjoin(inserted, inserted.c.id == new.c.id).join(means, means.c.model_id == new.c.model_id))
        .order_by(new.c.position)
    )


def _highest(stored: float | None, templates: Sequence[NewTemplate], index: int) -> float | None:
    """Returns the highest cosine of a template to the stored ones and to the others of the request."""
    new = templates[index]
    others = [item for position, item in enumerate(templates) if position != index and item.model_id == new.model_id]
    scores = [float(item.embedding @ new.embedding) for item in others]
    return max(scores if stored is None else [*scores, stored], default=None)


def _identity(row: Any, model_id: str, templates: Sequence[NewTemplate], added: Sequence[AddedTemplate]) -> Identity:
    counts = [one.template_count for new, one in zip(templates, added, strict=True) if new.model_id == model_id]
    names = ["id", "external_id", "label", "metadata", "created_at", "updated_at", "retain_until"]
    return Identity(**{name: getattr(row, name) for name in names}, template_count=counts[0] if counts else 0)
