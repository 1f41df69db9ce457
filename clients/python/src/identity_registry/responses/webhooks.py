"""Responses about webhooks."""

import uuid
from datetime import datetime
from typing import Annotated, Any

from pydantic import Field

from identity_registry.responses.base import Document


class Webhook(Document):
    """A URL that gets the events of a collection."""

    id: uuid.UUID
    url: str
    events: list[str]
    created_at: datetime


class CreatedWebhook(Webhook):
    """A new webhook. `secret`: checks the signatures of its requests; no other response contains it."""

    secret: Annotated[str, Field(repr=False)]


class WebhookDelivery(Document):
    """An event for a webhook.

    Attributes:
        id: the header `webhook-id` of the request.
        state: `waiting`, `delivered` or `failed`.
        problem: why the last attempt has failed.
        body: the document that the receiver gets.
    """

    id: uuid.UUID
    event: str
    state: str
    attempts: int
    problem: str | None = None
    body: dict[str, Any]
    created_at: datetime
    finished_at: datetime | None = None
