"""Tables of API keys, the audit trail and the schema's compatibility."""

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from service.gallery.storage.tables.base import created_at, metadata

audit = Table(
    "audit",
    metadata,
    # No foreign key to collection or identity: an entry remains after both are deleted.
    Column("collection_id", Uuid, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("action", Text, nullable=False),
    Column("key_id", Uuid, nullable=True),
    Column("key_name", Text, nullable=True),
    Column("request_id", Text, nullable=True),
    Column("identity_id", Uuid, nullable=True),
    Column("details", JSONB, nullable=False),
    Column("code", LargeBinary, key="mac", nullable=False),
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
    Column("code", LargeBinary, key="mac", nullable=False),
    Column("seal", LargeBinary, key="head_mac", nullable=False),
    # Derived from the key of both MACs. NULL: written by a release before migration 0024.
    Column("mac_key_id", LargeBinary, nullable=True),
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
    created_at(),
    Column("expires_at", DateTime(timezone=True), nullable=True),
    Column("revoked_at", DateTime(timezone=True), nullable=True),
    Column("requests_per_minute", Integer, nullable=True),
)


schema_serves = Table(
    "schema_serves",
    metadata,
    # One row: the oldest revision whose release works with the current schema.
    Column("from_revision", Text, nullable=False),
)
