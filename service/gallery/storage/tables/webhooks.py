"""Tables of webhooks and their deliveries."""

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
)
from sqlalchemy.dialects.postgresql import JSONB

from service.gallery.storage.tables.base import created_at, metadata

webhook = Table(
    "webhook",
    metadata,
    Column("collection_id", Uuid, ForeignKey("collection.id", ondelete="CASCADE"), nullable=False),
    Column("id", Uuid, nullable=False),
    Column("url", Text, nullable=False),
    Column("events", ARRAY(Text, dimensions=1), nullable=False),
    # The last entry of the collection's audit trail for which deliveries exist.
    Column("last_number", BigInteger, nullable=False),
    created_at(),
    PrimaryKeyConstraint("collection_id", "id"),
)


webhook_delivery = Table(
    "webhook_delivery",
    metadata,
    Column("collection_id", Uuid, nullable=False),
    Column("id", Uuid, nullable=False),
    Column("webhook_id", Uuid, nullable=False),
    Column("event", Text, nullable=False),
    Column("body", JSONB, nullable=False),
    # A finished job has one delivery, however often it is found. NULL: the event is an entry of the audit trail.
    Column("job_id", Uuid, nullable=True),
    Column("state", Text, nullable=False, server_default="waiting"),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("problem", Text, nullable=True),
    created_at(),
    Column("finished_at", DateTime(timezone=True), nullable=True),
    PrimaryKeyConstraint("collection_id", "id"),
    ForeignKeyConstraint(["collection_id", "webhook_id"], ["webhook.collection_id", "webhook.id"], ondelete="CASCADE"),
    UniqueConstraint("collection_id", "webhook_id", "job_id"),
    CheckConstraint("state IN ('waiting', 'delivered', 'failed')", name="known_state"),
    Index("ix_webhook_delivery_collection_id_webhook_id_created_at", "collection_id", "webhook_id", "created_at"),
)
