"""The schema. Every key of a person's rows begins with the collection, so that the gallery can be spread by it.

A row that holds an embedding names its model and dimension; `CHECK (vector_dims(embedding) = dim)` with a foreign key
on (model_id, dim) holds dimensions together without one column type per model.
"""

from pgvector.sqlalchemy import BIT, Vector
from sqlalchemy import (
    ARRAY,
    REAL,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

CODE_BITS = 512

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)


def _created_at() -> "Column[object]":
    return Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now())


model = Table(
    "model",
    metadata,
    Column("id", Text, primary_key=True),
    Column("dim", Integer, nullable=False),
    Column("fingerprint", Text, nullable=False),
    _created_at(),
    UniqueConstraint("id", "dim"),
)

collection = Table(
    "collection",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("model_id", Text, ForeignKey("model.id"), nullable=False),
    Column("fmr", Double, nullable=True),
    Column("fpir", Double, nullable=True),
    Column("quality", Text, nullable=False, server_default="standard"),
    Column("duplicates", Text, nullable=False, server_default="allow"),
    _created_at(),
    # Every new face is embedded by it as well, so that it can take the other one's place.
    Column("secondary_model_id", Text, ForeignKey("model.id"), nullable=True),
    Column("auto_activate", Boolean, nullable=False, server_default="false"),
    Column("store_crops", Boolean, nullable=False, server_default="false"),
    CheckConstraint("num_nonnulls(fmr, fpir) <= 1", name="one_default_rate"),
    CheckConstraint("quality IN ('off', 'standard', 'strict')", name="known_quality"),
    CheckConstraint("duplicates IN ('allow', 'warn', 'reject')", name="known_duplicates"),
    CheckConstraint("secondary_model_id <> model_id", name="another_model"),
)

identity = Table(
    "identity",
    metadata,
    Column("collection_id", Uuid, ForeignKey("collection.id"), nullable=False),
    Column("id", Uuid, nullable=False),
    Column("external_id", Text, nullable=False),
    Column("label", Text, nullable=False),
    Column("metadata", JSONB, nullable=False, server_default="{}"),
    _created_at(),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("retain_until", DateTime(timezone=True), nullable=True),
    PrimaryKeyConstraint("collection_id", "id"),
    UniqueConstraint("collection_id", "external_id"),
    Index("ix_identity_collection_id_created_at_id", "collection_id", "created_at", "id"),
    Index("ix_identity_retain_until", "retain_until", postgresql_where=text("retain_until IS NOT NULL")),
    Index("ix_identity_metadata", "metadata", postgresql_using="gin", postgresql_ops={"metadata": "jsonb_path_ops"}),
)


def _embedding_columns() -> "list[Column[object] | ForeignKeyConstraint | CheckConstraint]":
    return [
        Column("collection_id", Uuid, nullable=False),
        Column("identity_id", Uuid, nullable=False),
        Column("model_id", Text, nullable=False),
        Column("dim", Integer, nullable=False),
        Column("embedding", Vector(), nullable=False),
        ForeignKeyConstraint(
            ["collection_id", "identity_id"], ["identity.collection_id", "identity.id"], ondelete="CASCADE"
        ),
        ForeignKeyConstraint(["model_id", "dim"], ["model.id", "model.dim"]),
        CheckConstraint("vector_dims(embedding) = dim", name="embedding_dim"),
    ]


template = Table(
    "template",
    metadata,
    *_embedding_columns(),
    Column("id", Uuid, nullable=False),
    Column("source_sha256", LargeBinary, nullable=False),
    Column("box", ARRAY(REAL, dimensions=1), nullable=False),
    Column("detection_score", REAL, nullable=False),
    Column("quality", REAL, nullable=True),
    _created_at(),
    PrimaryKeyConstraint("collection_id", "id"),
    # Also the way from an identity to its templates.
    UniqueConstraint("collection_id", "identity_id", "model_id", "source_sha256"),
)

centroid = Table(
    "centroid",
    metadata,
    *_embedding_columns(),
    Column("template_count", Integer, nullable=False),
    # Null: not made yet.
    Column("code", BIT(CODE_BITS), nullable=True),
    PrimaryKeyConstraint("collection_id", "identity_id", "model_id"),
    # All that a search by codes reads of those who are not among the nearest.
    Index(
        "ix_centroid_coded",
        "collection_id",
        "model_id",
        postgresql_include=["identity_id", "code"],
        postgresql_where=text("code IS NOT NULL"),
    ),
    Index(
        "ix_centroid_uncoded",
        "collection_id",
        "model_id",
        postgresql_include=["identity_id"],
        postgresql_where=text("code IS NULL"),
    ),
)

correction = Table(
    "correction",
    metadata,
    *_embedding_columns(),
    Column("id", Uuid, nullable=False),
    _created_at(),
    # Null: of before there were crops.
    Column("source_sha256", LargeBinary, nullable=True),
    PrimaryKeyConstraint("collection_id", "id"),
    Index("ix_correction_collection_id_identity_id", "collection_id", "identity_id"),
)

crop = Table(
    "crop",
    metadata,
    Column("collection_id", Uuid, nullable=False),
    Column("identity_id", Uuid, nullable=False),
    # As of the templates, or of the correction, that were made of it.
    Column("source_sha256", LargeBinary, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    _created_at(),
    PrimaryKeyConstraint("collection_id", "identity_id", "source_sha256"),
    ForeignKeyConstraint(
        ["collection_id", "identity_id"], ["identity.collection_id", "identity.id"], ondelete="CASCADE"
    ),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("collection_id", Uuid, nullable=False),
    Column("key", Text, nullable=False),
    Column("request_sha256", LargeBinary, nullable=False),
    # Both are set before the transaction that makes the row ends. The answer goes with the person.
    Column("identity_id", Uuid, nullable=True),
    Column("answer", JSONB, nullable=True),
    _created_at(),
    PrimaryKeyConstraint("collection_id", "key"),
    ForeignKeyConstraint(
        ["collection_id", "identity_id"], ["identity.collection_id", "identity.id"], ondelete="CASCADE"
    ),
    Index("ix_idempotency_collection_id_created_at", "collection_id", "created_at"),
    Index("ix_idempotency_collection_id_identity_id", "collection_id", "identity_id"),
)

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
    _created_at(),
    Column("started_at", DateTime(timezone=True), nullable=True),
    Column("finished_at", DateTime(timezone=True), nullable=True),
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
    Column("external_id", Text, nullable=False),
    Column("label", Text, nullable=True),
    Column("metadata", JSONB, nullable=True),
    # Null: not done yet. Set in the transaction that enrols, so that a row is done once, whatever breaks.
    Column("status", Text, nullable=True),
    Column("identity_id", Uuid, nullable=True),
    Column("template_id", Uuid, nullable=True),
    Column("code", Text, nullable=True),
    Column("detail", Text, nullable=True),
    Column("done_at", DateTime(timezone=True), nullable=True),
    PrimaryKeyConstraint("collection_id", "job_id", "number"),
    ForeignKeyConstraint(["collection_id", "job_id"], ["job.collection_id", "job.id"], ondelete="CASCADE"),
    CheckConstraint("status IN ('accepted', 'duplicate', 'rejected', 'failed')", name="known_status"),
    # By it a person who is erased is found here as well.
    Index("ix_job_row_collection_id_external_id", "collection_id", "external_id"),
    Index("ix_job_row_collection_id_identity_id", "collection_id", "identity_id"),
)

audit = Table(
    "audit",
    metadata,
    # No reference to collection or person: an entry outlives both.
    Column("collection_id", Uuid, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("action", Text, nullable=False),
    Column("key_id", Uuid, nullable=True),
    Column("key_name", Text, nullable=True),
    Column("request_id", Text, nullable=True),
    Column("identity_id", Uuid, nullable=True),
    Column("details", JSONB, nullable=False),
    Column("code", LargeBinary, nullable=False),
    PrimaryKeyConstraint("collection_id", "number"),
    Index(
        "ix_audit_collection_id_identity_id_number",
        "collection_id",
        "identity_id",
        "number",
        postgresql_where=text("identity_id IS NOT NULL"),
    ),
)

audit_head = Table(
    "audit_head",
    metadata,
    Column("collection_id", Uuid, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("code", LargeBinary, nullable=False),
    Column("seal", LargeBinary, nullable=False),
    PrimaryKeyConstraint("collection_id"),
)

api_key = Table(
    "api_key",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("scopes", ARRAY(Text, dimensions=1), nullable=False),
    Column("collection_id", Uuid, ForeignKey("collection.id", ondelete="CASCADE"), nullable=True),
    _created_at(),
    Column("expires_at", DateTime(timezone=True), nullable=True),
    Column("revoked_at", DateTime(timezone=True), nullable=True),
    Column("requests_per_minute", Integer, nullable=True),
)

schema_serves = Table(
    "schema_serves",
    metadata,
    # One row: releases of this revision and later ones work with the schema as it is now.
    Column("from_revision", Text, nullable=False),
)
