"""Stores an enrolment: the identity's row, its templates and centroids, and everything that must commit with them."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import Conflict, NotAllowed
from service.gallery.access.audit_entries import Action, Event
from service.gallery.access.audit_trail import AuditTrail
from service.gallery.enrolment import additions, duplicates
from service.gallery.enrolment.records import AddedTemplate, EnrolmentResult, NewEnrolment, NewTemplate
from service.gallery.enrolment.rows import add_templates, lock_or_create
from service.gallery.index import snapshots
from service.gallery.index.memory_indexes import MemoryIndexes
from service.gallery.people import collections, crops, erasure, idempotency, pruning
from service.gallery.people.collections import Collection, ModelsChangedError
from service.gallery.people.idempotency import StoredResponse
from service.gallery.people.identities import Identity
from service.gallery.search.results import Candidate
from service.gallery.search.search import GallerySizes
from service.gallery.storage.database import Database
from service.names import comparable


class _ResponseExistsError(Exception): ...


@dataclass(frozen=True)
class EnrolmentStore:
    """Reads and stores enrolments, each in one transaction.

    Attributes:
        max_templates: maximum number of templates of an identity under a model.
    """

    database: Database
    audit_trail: AuditTrail
    sizes: GallerySizes
    indexes: MemoryIndexes
    max_templates: int = 64

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
        row, created = await self._identity_row(connection, enrolment)
        others = [candidate for candidate in candidates if candidate.id != row.id]
        if others and created and enrolment.duplicate_check and enrolment.duplicate_check.refuse:
            raise enrolment.duplicate_check.refuse(others)
        accepted = enrolment if created else await additions.matching(connection, row.id, enrolment)
        added = await add_templates(connection, collection.id, row.id, accepted.templates)
        if accepted.encrypted_crops:
            await crops.store(connection, collection.id, row.id, accepted.encrypted_crops)
        added = await self._pruned(connection, collection.id, row.id, accepted.templates, added)
        results = _in_order(enrolment.templates, accepted.templates, added)
        identity_row = _identity(row, collection.model_id, enrolment.templates, results)
        result = EnrolmentResult(identity_row, created, results, others)
        if enrolment.record is not None:
            await enrolment.record(connection, result)
        await self._store_response(connection, enrolment, result)
        await self.audit_trail.append(connection, collection.id, [_event(enrolment, result)])
        return result

    async def _identity_row(self, connection: AsyncConnection, enrolment: NewEnrolment) -> tuple[Any, bool]:
        """Returns the locked row of the identity, and True if it is new. An identity past its retention time is erased.

        Raises:
            NotAllowed: the enrolment may not change the existing identity, and has other values.
        """
        collection_id, external_id = enrolment.collection.id, enrolment.external_id
        locked = await self._lock(connection, enrolment)
        if locked is None:
            await erasure.expire_external_id(connection, self.audit_trail, collection_id, external_id)
            locked = await self._lock(connection, enrolment)
            assert locked is not None  # the external id of the erased identity is free
        row, created = locked
        if not created and not enrolment.may_change:
            _require_unchanged(row, enrolment)
        return row, created

    async def _lock(self, connection: AsyncConnection, enrolment: NewEnrolment) -> tuple[Any, bool] | None:
        return await lock_or_create(
            connection,
            enrolment.collection.id,
            enrolment.external_id,
            enrolment.label,
            enrolment.metadata,
            enrolment.retain_until,
            enrolment.may_change,
            enrolment.named,
        )

    async def _pruned(
        self,
        connection: AsyncConnection,
        collection_id: uuid.UUID,
        identity_id: uuid.UUID,
        templates: Sequence[NewTemplate],
        added: list[AddedTemplate],
    ) -> list[AddedTemplate]:
        """Deletes the least representative templates of an identity that has too many under the active model."""
        if added[0].template_count <= self.max_templates:
            return added
        scope = connection, collection_id, identity_id, templates[0].model_id
        kept = await pruning.prune(*scope, self.max_templates)
        pruned = [replace(item, template_count=min(item.template_count, self.max_templates)) for item in added]
        return [
            item if new.source_sha256 in kept else replace(item, id=None, rejection=pruning.not_kept())
            for new, item in zip(templates, pruned, strict=True)
        ]

    async def _duplicates(self, connection: AsyncConnection, enrolment: NewEnrolment) -> list[Candidate]:
        """Searches the collection without the enrolment lock, and what has changed since then under it."""
        check, collection = enrolment.duplicate_check, enrolment.collection
        if check is None:
            return []
        size = await self.sizes.of(connection, collection.id, collection.model_id)
        scope = connection, collection.id, collection.model_id, check.probes, check.decide(size)
        snapshot = await snapshots.current(connection, collection.id)
        candidates = await duplicates.find(*scope, size.people, self.indexes)
        await collections.lock_enrolment(connection, collection.id)
        changed = await duplicates.find_changed(*scope, snapshot)
        if changed is None:
            return await duplicates.find(*scope, size.people, self.indexes)
        return duplicates.merge(candidates, changed)

    async def _store_response(
        self, connection: AsyncConnection, enrolment: NewEnrolment, result: EnrolmentResult
    ) -> None:
        if enrolment.idempotency_key is None or enrolment.response is None:
            return
        response = StoredResponse(enrolment.request_sha256, enrolment.response(result))
        scope = connection, enrolment.collection.id, enrolment.idempotency_key, result.identity.id
        if not await idempotency.store(*scope, response):
            raise _ResponseExistsError


def _require_unchanged(row: Any, enrolment: NewEnrolment) -> None:
    """Raises NotAllowed if the enrolment has other values than the existing identity."""
    for name in enrolment.changes:
        new, current = getattr(enrolment, name), getattr(row, name)
        if new != current and (name != "label" or comparable(new) != comparable(current)):
            raise NotAllowed(
                f"an identity with this external_id exists, and changing its `{name}` requires the scope `manage`; "
                f"omit `{name}`, or send a key with this scope",
                pointer=f"/{name}",
            )


def _in_order(
    templates: Sequence[NewTemplate], accepted: Sequence[NewTemplate], added: Sequence[AddedTemplate]
) -> list[AddedTemplate]:
    """Returns one result for each of the templates; those that were not accepted do not match the identity."""
    if len(accepted) == len(templates):
        return list(added)
    sources, results = {item.source_sha256 for item in accepted}, iter(added)
    rejected = AddedTemplate(None, None, added[0].template_count, additions.addition_rejected())
    return [next(results) if item.source_sha256 in sources else rejected for item in templates]


def _event(enrolment: NewEnrolment, result: EnrolmentResult) -> Event:
    """Returns the audit event. The active model's templates come first, one for each accepted picture."""
    model_id = enrolment.collection.model_id
    pairs = zip(enrolment.templates, result.templates, strict=True)
    active = [added for new, added in pairs if new.model_id == model_id]
    rejected = sum(item.rejection is not None for item in active)
    accepted = sum(item.id is not None for item in active)
    counts = {"accepted": accepted, "duplicate": len(active) - accepted - rejected}
    counts["rejected"] = enrolment.rejected + rejected
    details: dict[str, Any] = {"created": result.created, "forced": enrolment.forced}
    if not result.created and enrolment.may_change and enrolment.changes:
        details["changed"] = enrolment.changes
    present = {status: count for status, count in counts.items() if count}
    return Event(Action.ENROL, enrolment.actor, result.identity.id, details | present)


def _identity(row: Any, model_id: str, templates: Sequence[NewTemplate], added: Sequence[AddedTemplate]) -> Identity:
    counts = [item.template_count for new, item in zip(templates, added, strict=True) if new.model_id == model_id]
    values = {name: value for name, value in row._mapping.items() if name not in {"collection_id", "created"}}
    return Identity(**values, template_count=counts[0] if counts else 0)
