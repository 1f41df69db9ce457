"""Documents of webhooks and their deliveries."""

import uuid
from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, Field

from service.api.schemas.fields import Body
from service.gallery.webhooks.deliveries import Delivery, DeliveryState
from service.gallery.webhooks.events import WebhookEvent
from service.gallery.webhooks.webhooks import Webhook

MAX_URL = 2000


class WebhookRequest(Body):
    """A URL that gets the events of a collection."""

    url: Annotated[
        str,
        Field(
            max_length=MAX_URL,
            pattern=r"^https?://[!-~]+$",
            description="its host must be in the setting `webhooks.allowed_hosts`",
            examples=["https://example.org/hooks/registry"],
        ),
    ]
    events: list[WebhookEvent] = Field(min_length=1, max_length=len(WebhookEvent), description="what to report")


class WebhookView(BaseModel):
    id: uuid.UUID
    url: str
    events: list[WebhookEvent]
    created_at: datetime


class CreatedWebhook(WebhookView):
    secret: str = Field(description="checks the signatures of requests; store it, no other response contains it")


class WebhooksResponse(BaseModel):
    webhooks: list[WebhookView]
    next_cursor: str | None


class DeliveryView(BaseModel):
    id: uuid.UUID = Field(description="the header `webhook-id` of the request")
    event: WebhookEvent
    state: DeliveryState
    attempts: int
    problem: str | None = Field(description="why the last attempt has failed")
    body: dict[str, Any] = Field(description="the document that the receiver gets")
    created_at: datetime
    finished_at: datetime | None


class DeliveriesResponse(BaseModel):
    deliveries: list[DeliveryView]
    next_cursor: str | None


def webhook_view(hook: Webhook) -> WebhookView:
    return WebhookView.model_validate(hook, from_attributes=True)


def created_webhook(hook: Webhook, secret: str) -> CreatedWebhook:
    return CreatedWebhook(**webhook_view(hook).model_dump(), secret=secret)


def delivery_view(delivery: Delivery) -> DeliveryView:
    return DeliveryView.model_validate(delivery, from_attributes=True)
