"""Routes of /collections/{name}/webhooks."""

import uuid
from typing import Annotated

from fastapi import APIRouter, Query

from service.api.http.cursors import Cursor, Limit, decode, encode, split_page
from service.api.routes.model_migration import Named
from service.api.schemas.webhooks import (
    CreatedWebhook,
    DeliveriesResponse,
    WebhookRequest,
    WebhooksResponse,
    created_webhook,
    delivery_view,
    webhook_view,
)
from service.api.state import State
from service.gallery.webhooks.deliveries import DeliveryState

router = APIRouter(prefix="/collections/{name}/webhooks", tags=["webhooks"])
OnlyState = Annotated[DeliveryState | None, Query(alias="state", description="only deliveries in this state")]


@router.post("", status_code=201, summary="Create a webhook")
async def create_webhook(named: Named, body: WebhookRequest, state: State) -> CreatedWebhook:
    """Sends a signed POST request to the URL for each event from now on.

    The requests follow Standard Webhooks 1.0: the headers `webhook-id`, `webhook-timestamp` and `webhook-signature`. A
    receiver accepts an event with a status of 2xx. Otherwise the service repeats the request with growing delays. The
    same event can arrive twice, with the same `webhook-id`. Documents contain ids and counts, and no biometric data.
    """
    hook, secret = await state.webhooks.create(named.name, body.url, body.events, named.actor)
    return created_webhook(hook, secret)


@router.get("", summary="List the webhooks of a collection page by page")
async def list_webhooks(named: Named, state: State, limit: Limit = 100, cursor: Cursor = None) -> WebhooksResponse:
    """Returns webhooks without their secrets, oldest first."""
    items = await state.webhooks.page(named.name, limit + 1, decode(cursor))
    page, next_cursor = split_page(items, limit, encode)
    return WebhooksResponse(webhooks=[webhook_view(item) for item in page], next_cursor=next_cursor)


@router.delete("/{webhook_id}", status_code=204, summary="Delete a webhook")
async def delete_webhook(named: Named, webhook_id: uuid.UUID, state: State) -> None:
    """Deletes a webhook with its deliveries."""
    await state.webhooks.delete(named.name, webhook_id, named.actor)


@router.get("/{webhook_id}/deliveries", summary="List the deliveries of a webhook page by page")
async def list_webhook_deliveries(
    named: Named,
    webhook_id: uuid.UUID,
    state: State,
    delivery_state: OnlyState = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> DeliveriesResponse:
    """Returns deliveries, oldest first: waiting ones, and finished ones of the last days (`webhooks.keep_days`)."""
    items = await state.webhooks.deliveries(named.name, webhook_id, delivery_state, limit + 1, decode(cursor))
    page, next_cursor = split_page(items, limit, encode)
    return DeliveriesResponse(deliveries=[delivery_view(item) for item in page], next_cursor=next_cursor)
