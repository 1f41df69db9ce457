"""Operations on webhooks."""

import uuid
from collections.abc import Sequence
from typing import Literal

from identity_registry.binding import listing, operation
from identity_registry.inputs import without_none
from identity_registry.requests import Body, Listing, Request, nothing, path_of
from identity_registry.responses.base import Page
from identity_registry.responses.webhooks import CreatedWebhook, Webhook, WebhookDelivery

Event = Literal["match", "unknown", "enrolled", "erased", "job_done"]
DeliveryState = Literal["waiting", "delivered", "failed"]


class Webhooks:
    @operation
    def create_webhook(self, name: str, url: str, events: Sequence[Event]) -> Request[CreatedWebhook]:
        """Sends a signed request to a URL for each event of a collection from now on.

        Args:
            url: its host must be in the service's setting `webhooks.allowed_hosts`.
        """
        body = Body({"url": url, "events": list(events)})
        return Request("POST", _path(name), CreatedWebhook.model_validate_json, body=body, repeatable=False)

    @listing
    def list_webhooks(self, name: str, *, page_size: int | None = None) -> Listing[Webhook]:
        """Iterates over the webhooks of a collection."""
        return Listing(Request("GET", _path(name), Page[Webhook].model_validate_json, without_none(limit=page_size)))

    @operation
    def delete_webhook(self, name: str, webhook_id: uuid.UUID | str) -> Request[None]:
        """Deletes a webhook with its deliveries."""
        return Request("DELETE", _path(name, webhook_id), nothing, repeatable=False)

    @listing
    def list_webhook_deliveries(
        self,
        name: str,
        webhook_id: uuid.UUID | str,
        *,
        state: DeliveryState | None = None,
        page_size: int | None = None,
    ) -> Listing[WebhookDelivery]:
        """Iterates over the deliveries of a webhook, oldest first."""
        query = without_none(state=state, limit=page_size)
        path = _path(name, webhook_id, "deliveries")
        return Listing(Request("GET", path, Page[WebhookDelivery].model_validate_json, query))


def _path(name: str, *parts: uuid.UUID | str) -> str:
    return path_of("collections", name, "webhooks", *parts)
