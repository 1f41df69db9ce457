"""The schema of the gallery, as SQLAlchemy tables."""

from service.gallery.storage.tables.access import api_key, audit, audit_head, schema_serves
from service.gallery.storage.tables.base import labelled, metadata, shown_columns, shown_external_id
from service.gallery.storage.tables.jobs import group_member, job, job_row
from service.gallery.storage.tables.people import (
    CODE_BITS,
    centroid,
    centroid_change,
    collection,
    correction,
    crop,
    idempotency,
    identity,
    model,
    template,
)
from service.gallery.storage.tables.webhooks import webhook, webhook_delivery

__all__ = [
    "CODE_BITS",
    "api_key",
    "audit",
    "audit_head",
    "centroid",
    "centroid_change",
    "collection",
    "correction",
    "crop",
    "group_member",
    "idempotency",
    "identity",
    "job",
    "job_row",
    "labelled",
    "metadata",
    "model",
    "schema_serves",
    "shown_columns",
    "shown_external_id",
    "template",
    "webhook",
    "webhook_delivery",
]
