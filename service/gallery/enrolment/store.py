"""Stores an enrolment: the identity's row, its templates and centroids, and everything that must commit with them."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from pgvector.sqlalchemy import Vector
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import CollectionNotFound, Conflict
from service.gallery.access.audit_entries import Action, Event
from service.gallery.access.audit_trail import AuditTrail
from service.gallery.enrolment import duplicates
from service.gallery.enrolment.records import AddedTemplate, EnrolmentResult, NewEnrolment, NewTemplate
from service.gallery.index import centroids
from service.gallery.index.centroids import Centroid
from service.gallery.people import collections, crops, idempotency
from service.gallery.people.collections import Collection, ModelsChangedError
from service.gallery.people.idempotency import StoredResponse
from service.gallery.people.identities import Identity
from service.gallery.search.results import Candidate
from service.gallery.search.search import GallerySizes
from service.gallery.storage.database import Database
from service.gallery.storage.tables import identity, template

_INPUT: dict[str, Any] = dict.fromkeys(("model_id", "vector"), sa.Text)
_INPUT |= dict.fromkeys(("detection_score", "quality"), sa.REAL)
_INPUT |= {"position": sa.Integer, "id": sa.Uuid, "source_sha256": sa.LargeBinary, "box": sa.ARRAY(sa.REAL)}


class _ResponseExistsError(Exception): ...


@dataclass(frozen=True)
class EnrolmentStore:
    """Reads and stores enrolments, each in one transaction."""

    database: Database
    audit_trail: AuditTrail
    sizes: GallerySizes

    async def begin(self, collection: str, idempotency_key: str | None) -> tuple[Collection, StoredResponse | None]:
        """Reads the collection and the response stored under the key. Raises CollectionNotFound."""
        async with self.database.transaction() as connection:
            current = await collections.get(connection, collection)
            if idempotency_key is None:
                return current, None
            return current, await idempotency.find(connection, current.id, idempotency_key)

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
            _, stored = await self.begin(enrolment.collection.name, enrolment.idempotency_key)
            if stored is None:
                raise Conflict(
                    "a concurrent request with this Idempotency-Key changes the identity; send the request again"
                ) from None
            return stored

    async def _store(self, connection: AsyncConnection, enrolment: NewEnrolment) -> EnrolmentResult:
        collection = await collections.get(connection, enrolment.collection.name, lock="share")
        if (collection.id, collection.models) != (enrolment.collection.id, enrolment.collection.models):
            raise ModelsChangedError
        candidates = await self._duplicates(connection, enrolment)
        values = enrolment.label, enrolment.metadata, enrolment.retain_until
        row, created = await lock_or_create(connection, collection.id, enrolment.external_id, *values)
        others = [candidate for candidate in candidates if candidate.id != row.id]
        if others and created and enrolment.duplicate_check and enrolment.duplicate_check.refuse:
            raise enrolment.duplicate_check.refuse(others)
        added = await add_templates(connection, collection.id, row.id, enrolment.templates)
        if enrolment.encrypted_crops:
            await crops.store(connection, collection.id, row.id, enrolment.encrypted_crops)
        identity_row = _identity(row, collection.model_id, enrolment.templates, added)
        result = EnrolmentResult(identity_row, created, added, others)
        if enrolment.record is not None:
            await enrolment.record(connection, result)
        await self._store_response(connection, enrolment, result)
        await self.audit_trail.append(connection, collection.id, [_event(enrolment, result)])
        return result

    async def _duplicates(self, connection: AsyncConnection, enrolment: NewEnrolment) -> list[Candidate]:
        """Searches the collection without the enrolment lock, and the recently changed identities again under it."""
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
    None leaves an existing identity's value unchanged. Returns the row, and True if it is new.

    Raises:
        CollectionNotFound: the collection was deleted while the pictures were observed.
    """
    updates = {"label": label, "metadata": metadata, "retain_until": retain_until}
    changes = {name: value for name, value in updates.items() if value is not None}
    defaults = {"label": external_id, "metadata": {}}
    new = {"collection_id": collection_id, "id": uuid.uuid4(), "external_id": external_id, **defaults, **changes}
    # Not now(), which is the start of the transaction: `duplicates.RECENT_S` bounds the time from here to the commit.
    time = {"updated_at": sa.func.clock_timestamp()}
    key = ["collection_id", "external_id"]
    insertion = insert(identity).values(new | time).on_conflict_do_update(index_elements=key, set_=changes | time)
    statement = insertion.returning(identity, sa.literal_column("(xmax = 0)").label("created"))
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
    rows = (await connection.execute(_insertion(collection_id, identity_id, templates))).all()
    means: dict[str, Centroid] = {}
    for row, new in zip(rows, templates, strict=True):
        if row.id is not None and new.model_id not in means:
            means[new.model_id] = await centroids.from_mean(connection, collection_id, identity_id, row)
    await centroids.store(connection, collection_id, list(means.values()))
    return [
        AddedTemplate(row.id, _highest(row.stored_similarity, templates, index), row.template_count)
        for index, row in enumerate(rows)
    ]


def _insertion(collection_id: uuid.UUID, identity_id: uuid.UUID, templates: Sequence[NewTemplate]) -> Any:
    """Returns the first statement of `add_templates`; its rows are in the order of `templates`."""
    new = _input(templates)
    embedding = sa.cast(new.c.vector, Vector())
    target: dict[str, Any] = {
        "collection_id": sa.literal(collection_id),
        "identity_id": sa.literal(identity_id),
        "dim": sa.func.vector_dims(embedding),
        "embedding": embedding,
        **{name: new.c[name] for name in _INPUT if name not in {"position", "vector"}},
    }
    inserted = (
        insert(template)
        .from_select(list(target), sa.select(*target.values()))
        .on_conflict_do_nothing()
        .returning(template.c.id, template.c.model_id, template.c.embedding)
        .cte("inserted")
    )
    stored = (
        sa.select(template.c.model_id, template.c.embedding)
        .where(template.c.collection_id == collection_id, template.c.identity_id == identity_id)
        .where(template.c.model_id.in_({item.model_id for item in templates}))
        .cte("stored")
    )
    both = sa.union_all(sa.select(stored), sa.select(inserted.c.model_id, inserted.c.embedding)).subquery("both")
    means = centroids.means_of(both).cte("means")
    cosine = -stored.c.embedding.max_inner_product(embedding)
    similarity = sa.select(sa.func.max(cosine)).where(stored.c.model_id == new.c.model_id)
    return (
        sa.select(inserted.c.id, similarity.scalar_subquery().label("stored_similarity"), means)
        .select_from(new.outerjoin(inserted, inserted.c.id == new.c.id).join(means, means.c.model_id == new.c.model_id))
        .order_by(new.c.position)
    )


def _input(templates: Sequence[NewTemplate]) -> sa.CTE:
    """Returns the templates as a table from one JSON parameter: SQLAlchemy cannot cache a VALUES of several rows."""
    rows = [
        {
            "position": position,
            "id": str(uuid.uuid4()),
            "model_id": one.model_id,
            "vector": str(one.embedding.tolist()),
            "source_sha256": f"\\x{one.source_sha256.hex()}",
            "box": one.box,
            "detection_score": one.detection_score,
            "quality": one.quality,
        }
        for position, one in enumerate(templates)
    ]
    columns = [sa.column(name, kind) for name, kind in _INPUT.items()]
    table = sa.func.jsonb_to_recordset(sa.literal(rows, JSONB)).table_valued(*columns, name="input")
    return sa.select(table.render_derived(with_types=True)).cte("new")


def _event(enrolment: NewEnrolment, result: EnrolmentResult) -> Event:
    """Returns the audit event. The active model's templates come first, one for each accepted picture."""
    active = enrolment.collection.model_id
    pairs = zip(enrolment.templates, result.templates, strict=True)
    ids = [added.id for new, added in pairs if new.model_id == active]
    counts = {"accepted": len(ids) - ids.count(None), "duplicate": ids.count(None), "rejected": enrolment.rejected}
    details = {"created": result.created, "forced": enrolment.forced}
    present = {status: count for status, count in counts.items() if count}
    return Event(Action.ENROL, enrolment.actor, result.identity.id, details | present)


def _highest(stored: float | None, templates: Sequence[NewTemplate], index: int) -> float | None:
    """Returns the highest cosine of a template to the stored ones and to the others of the request."""
    new = templates[index]
    others = [item for position, item in enumerate(templates) if position != index and item.model_id == new.model_id]
    scores = [float(item.embedding @ new.embedding) for item in others]
    return max(scores if stored is None else [*scores, stored], default=None)


def _identity(row: Any, model_id: str, templates: Sequence[NewTemplate], added: Sequence[AddedTemplate]) -> Identity:
    counts = [item.template_count for new, item in zip(templates, added, strict=True) if new.model_id == model_id]
    values = {name: value for name, value in row._mapping.items() if name not in {"collection_id", "created"}}
    return Identity(**values, template_count=counts[0] if counts else 0)
