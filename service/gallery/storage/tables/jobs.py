"""Tables of background jobs and their rows."""

from sqlalchemy import (
    REAL,
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
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from service.gallery.storage.tables.base import created_at, metadata

job = Table(
    "job",
    metadata,
    Column("collection_id", Uuid, ForeignKey("collection.id", ondelete="CASCADE"), nullable=False),
    Column("id", Uuid, nullable=False),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False, server_default="waiting"),
    Column("request", JSONB, nullable=False),
    Column("total", Integer, nullable=True),
    Column("problem", Text, nullable=True),
    created_at(),
    Column("started_at", DateTime(timezone=True), nullable=True),
    Column("finished_at", DateTime(timezone=True), nullable=True),
    # Ids of the deliveries of each task that have not ended in an orderly way. NULL: none.
    Column("deliveries", JSONB, nullable=True),
    PrimaryKeyConstraint("collection_id", "id"),
    CheckConstraint("state IN ('waiting', 'running', 'done', 'failed', 'cancelled')", name="known_state"),
)


job_row = Table(
    "job_row",
    metadata,
    Column("collection_id", Uuid, nullable=False),
    Column("job_id", Uuid, nullable=False),
    Column("number", Integer, nullable=False),
    Column("source", Text, nullable=False),
    # In the form of `names.comparable`, and as it was sent; NULL: that is the same.
    Column("external_id", Text, nullable=False),
    Column("external_id_sent", Text, nullable=True),
    Column("label", Text, nullable=True),
    Column("metadata", JSONB, nullable=True),
    Column("box", JSONB, nullable=True),
    # NULL until the row is finished. It is set in the transaction that enrols, so that a row is processed exactly once.
    Column("status", Text, nullable=True),
    Column("identity_id", Uuid, nullable=True),
    Column("template_id", Uuid, nullable=True),
    Column("code", Text, nullable=True),
    Column("detail", Text, nullable=True),
    Column("done_at", DateTime(timezone=True), nullable=True),
    PrimaryKeyConstraint("collection_id", "job_id", "number"),
    ForeignKeyConstraint(["collection_id", "job_id"], ["job.collection_id", "job.id"], ondelete="CASCADE"),
    CheckConstraint("status IN ('accepted', 'duplicate', 'rejected', 'failed')", name="known_status"),
    Index("ix_job_row_waiting", "collection_id", "job_id", "number", postgresql_where=text("status IS NULL")),
    # Erasure finds the rows of an identity by its external id and by its id.
    Index("ix_job_row_collection_id_external_id", "collection_id", "external_id"),
    Index("ix_job_row_collection_id_identity_id", "collection_id", "identity_id"),
)


# The result of a grouping job. Groups and the members of each are numbered from 1; the first represents its group.
group_member = Table(
    "group_member",
    metadata,
    Column("collection_id", Uuid, nullable=False),
    Column("job_id", Uuid, nullable=False),
    Column("number", Integer, nullable=False),
    Column("position", Integer, nullable=False),
    Column("identity_id", Uuid, nullable=False),
    # Cosine to the mean of the group.
    Column("similarity", REAL, nullable=False),
    PrimaryKeyConstraint("collection_id", "job_id", "number", "position"),
    ForeignKeyConstraint(["collection_id", "job_id"], ["job.collection_id", "job.id"], ondelete="CASCADE"),
    ForeignKeyConstraint(
        ["collection_id", "identity_id"], ["identity.collection_id", "identity.id"], ondelete="CASCADE"
    ),
    Index("ix_group_member_collection_id_identity_id", "collection_id", "identity_id"),
)
