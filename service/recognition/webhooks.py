"""Creates, lists and deletes webhooks, and lists their deliveries."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from service.errors import Conflict, UrlNotAllowed
from service.gallery.access.audit_entries import Action, Actor, Event
from service.gallery.access.audit_trail import AuditTrail
from service.gallery.storage.database import Database
from service.gallery.storage.paging import PageCursor
from service.gallery.webhooks import deliveries, webhooks
from service.gallery.webhooks.deliveries import Delivery, DeliveryState
from service.gallery.webhooks.events import WebhookEvent
from service.gallery.webhooks.signing import WebhookSigner
from service.gallery.webhooks.webhooks import Webhook
from service.recognition.allowed_hosts import is_allowed
from service.recognition.collection_access import in_collection
from service.recognition.read_audit import ReadAuditBuffer


@dataclass(frozen=True)
class WebhookAdministration:
    """The use cases about webhooks.

    Attributes:
        read_audit: buffered events of searches, which a new webhook must not report.
        signer: None: the service keeps no audit trail, whose entries are the events.
        allowed_hosts: hosts in lower case, with the port if it is not the default port of the scheme.
        maximum: maximum number of webhooks of a collection.
    """

    database: Database
    audit_trail: AuditTrail
    read_audit: ReadAuditBuffer
    signer: WebhookSigner | None
    allowed_hosts: Sequence[str]
    maximum: int

    async def create(
        self, collection: str, url: str, events: Sequence[WebhookEvent], actor: Actor
    ) -> tuple[Webhook, str]:
        """Creates a webhook; returns it with its secret.

        Raises:
            CollectionNotFound
            UrlNotAllowed: the operator has not allowed the host.
            Conflict: the collection has too many webhooks, or the service keeps no audit trail.
        """
        require_allowed(url, self.allowed_hosts)
        if self.signer is None:
            raise Conflict("webhooks need the audit trail; set audit.key, the same for all services on this database")
        await self.read_audit.flush()
        async with in_collection(self.database, collection, "/name", lock="update") as (connection, current):
            if await webhooks.count(connection, current.id) >= self.maximum:
                raise Conflict(
                    f"the collection has {self.maximum} webhooks, the maximum (webhooks.max_per_collection); delete one"
                )
            created = await webhooks.add(connection, current.id, url, events)
            event = Event(Action.WEBHOOK_CREATE, actor, details={"webhook": str(created.id)})
            await self.audit_trail.append(connection, current.id, [event])
            return created, self.signer.secret(created.id)

    async def page(self, collection: str, limit: int, after: PageCursor | None) -> list[Webhook]:
        """Returns up to `limit` webhooks, oldest first. Raises CollectionNotFound."""
        async with in_collection(self.database, collection, "/name") as (connection, current):
            return await webhooks.page(connection, current.id, limit, after)

    async def delete(self, collection: str, webhook_id: uuid.UUID, actor: Actor) -> None:
        """Deletes a webhook with its deliveries. Raises CollectionNotFound, WebhookNotFound."""
        async with in_collection(self.database, collection, "/name") as (connection, current):
            await webhooks.remove(connection, current.id, webhook_id)
            event = Event(Action.WEBHOOK_DELETE, actor, details={"webhook": str(webhook_id)})
            await self.audit_trail.append(connection, current.id, [event])

    async def deliveries(
        self,
        collection: str,
        webhook_id: uuid.UUID,
        state: DeliveryState | None,
        limit: int,
        after: PageCursor | None,
    ) -> list[Delivery]:
        """Returns up to `limit` deliveries of a webhook, oldest first. Raises CollectionNotFound, WebhookNotFound."""
        async with in_collection(self.database, collection, "/name") as (connection, current):
            hook = await webhooks.get(connection, current.id, webhook_id)
            return await deliveries.page(connection, hook, state, limit, after)


def require_allowed(url: str, allowed: Sequence[str]) -> None:
    """Raises UrlNotAllowed if the operator has not allowed the host."""
    if not is_allowed(url, allowed):
        raise UrlNotAllowed(
            "the host is not in the setting webhooks.allowed_hosts, or the URL does not have the form "
            "https://host/path; ask the operator of the service to allow it",
            pointer="/url",
        )
