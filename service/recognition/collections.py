"""Lists, creates, changes and deletes collections."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from service.errors import CropsUnavailable
from service.gallery.access.audit_entries import Action, Actor, Event
from service.gallery.access.audit_trail import AuditTrail
from service.gallery.people import collection_deletion, collections, crops
from service.gallery.people.collections import Collection
from service.gallery.search.search import count
from service.gallery.storage.database import LONG_S, Database
from service.recognition.decision import DecisionResolver
from service.recognition.operating_point import OperatingPoint
from service.recognition.policies import DuplicatePolicy
from service.recognition.policy_checks import require_duplicates_decidable, require_resolvable

DELETION_S = 3.0
"""Time that a request spends on deleting rows; the maintenance deletes the rest."""


@dataclass(frozen=True)
class CollectionAdministration:
    """The use cases about collections.

    Attributes:
        default_model_id: the model of new collections.
        can_store_crops: the service has a key to encrypt crops.
    """

    database: Database
    audit_trail: AuditTrail
    resolver: DecisionResolver
    default_model_id: str
    can_store_crops: bool

    async def page(
        self, limit: int, after: str | None, only: str | None, prefix: str | None
    ) -> list[tuple[Collection, int]]:
        """Returns up to `limit` collections in the order of their names, each with its number of identities."""
        async with self.database.transaction(all_collections=True) as connection:
            return list(await collections.page(connection, limit, after, only, prefix))

    async def read(self, name: str) -> tuple[Collection, int]:
        """Returns a collection and its number of identities. Raises CollectionNotFound."""
        async with self.database.transaction() as connection:
            collection = await collections.get(connection, name, "/name")
            return collection, (await count(connection, collection.id, collection.model_id)).people

    async def create(self, name: str, model_id: str | None, settings: Mapping[str, Any], actor: Actor) -> Collection:
        """Creates a collection.

        Raises:
            CollectionExists, ModelNotLoaded, RateNotCalibrated, CropsUnavailable
        """
        chosen = model_id or self.default_model_id
        self.resolver.policy_of(chosen)
        self._require_supported(settings, chosen)
        async with self.database.transaction() as connection:
            created = await collections.create(connection, name, chosen, **settings)
            event = Event(Action.COLLECTION_CREATE, actor, details={"name": name})
            await self.audit_trail.append(connection, created.id, [event])
            return created

    async def change(self, name: str, settings: Mapping[str, Any], actor: Actor) -> tuple[Collection, int]:
        """Changes a collection's settings; returns it with its number of identities. Enrolled identities do not change.

        Raises:
            CollectionNotFound, ModelNotLoaded, RateNotCalibrated, CropsUnavailable
        """
        async with self.database.transaction(timeout_s=LONG_S) as connection:
            collection = await collections.get(connection, name, "/name", lock="update")
            for model_id in filter(None, (collection.model_id, collection.secondary_model_id)):
                self._require_supported(settings, model_id)
            changed = await collections.change(connection, collection.id, **settings)
            if settings.get("store_crops") is False:
                await crops.delete_all(connection, collection.id)
            size = await count(connection, collection.id, collection.model_id)
            if (default := _default_rate(settings)) is not None:
                self.resolver.for_gallery(changed, size, default)  # the gallery may be too large for the rate
            event = Event(Action.COLLECTION_CHANGE, actor, details=settings)
            await self.audit_trail.append(connection, collection.id, [event])
            return changed, size.people

    async def delete(self, name: str, actor: Actor) -> tuple[int, int]:
        """Deletes a collection with its identities. Its audit trail remains.

        Returns:
            The number of its identities, and how many of them the maintenance will delete.

        Raises:
            CollectionNotFound, Conflict
        """
        async with self.database.transaction() as connection:
            collection_id, identities = await collection_deletion.mark_deleted(connection, name)
            event = Event(Action.COLLECTION_DELETE, actor, details={"name": name, "identities": identities})
            await self.audit_trail.append(connection, collection_id, [event])
        until = time.monotonic() + DELETION_S
        deleted = await collection_deletion.delete_rows(self.database, collection_id, until)
        return identities, identities - deleted

    def _require_supported(self, settings: Mapping[str, Any], model_id: str) -> None:
        """Raises RateNotCalibrated, ModelNotLoaded or CropsUnavailable for settings that the model cannot keep."""
        if settings.get("duplicates", DuplicatePolicy.ALLOW) != DuplicatePolicy.ALLOW:
            require_duplicates_decidable(self.resolver, model_id)
        require_resolvable(self.resolver, _default_rate(settings), model_id)
        if settings.get("store_crops") and not self.can_store_crops:
            raise CropsUnavailable(
                "the service has no key to encrypt crops; set crops.key, the same for all services on this database",
                pointer="/store_crops",
            )


def _default_rate(settings: Mapping[str, Any]) -> OperatingPoint | None:
    return OperatingPoint.from_request(settings.get("fmr"), settings.get("fpir"))
