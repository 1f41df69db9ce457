"""Tables of models, collections, identities and their templates.

Every primary key of an identity's rows begins with `collection_id`, so that Citus can distribute the tables by it. A
row with an embedding has `model_id` and `dim`. `CHECK (vector_dims(embedding) = dim)` and a foreign key on (model_id,
dim) keep the dimension correct without one column type per model.

Where a column's `key` differs from its name, the name is from release 0.1 and stays, so that both releases can run on
one database during an upgrade.
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
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from service.gallery.storage.tables.base import created_at, metadata

CODE_BITS = 512

model = Table(
    "model",
    metadata,
    Column("id", Text, primary_key=True),
    Column("dim", Integer, nullable=False),
    Column("fingerprint", Text, nullable=False),
    created_at(),
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
    created_at(),
    # The model that embeds every new face in addition to `model_id` during and after a model migration.
    Column("standby_model_id", Text, ForeignKey("model.id"), key="secondary_model_id", nullable=True),
    Column("standby_activates", Boolean, key="auto_activate", nullable=False, server_default="false"),
    Column("store_crops", Boolean, nullable=False, server_default="false"),
    Column("additions", Text, nullable=False, server_default="match"),
    # The collection has been renamed, and its identities are being deleted.
    Column("deleted_at", DateTime(timezone=True), nullable=True),
    CheckConstraint("num_nonnulls(fmr, fpir) <= 1", name="one_default_rate"),
    CheckConstraint("quality IN ('off', 'standard', 'strict')", name="known_quality"),
    CheckConstraint("duplicates IN ('allow', 'warn', 'reject')", name="known_duplicates"),
    CheckConstraint("additions IN ('match', 'any')", name="known_additions"),
    CheckConstraint("standby_model_id <> model_id", name="another_model"),
)


identity = Table(
    "identity",
    metadata,
    Column("collection_id", Uuid, ForeignKey("collection.id"), nullable=False),
    Column("id", Uuid, nullable=False),
    # In the form of `names.comparable`, so that two forms of one name are one identity.
    Column("external_id", Text, nullable=False),
    # As it was sent first; NULL: that is `external_id`.
    Column("external_id_sent", Text, nullable=True),
    Column("label", Text, nullable=False),
    Column("metadata", JSONB, nullable=False, server_default="{}"),
    # The time of the insertion, and not that of the transaction: `paging.await_earlier_rows` depends on it.
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    Column("retain_until", DateTime(timezone=True), nullable=True),
    # False: the service has created the identity for a face of an unknown person.
    Column("named", Boolean, nullable=False, server_default="true"),
    PrimaryKeyConstraint("collection_id", "id"),
    UniqueConstraint("collection_id", "external_id"),
    # Unused since release 0.4. Release 0.3, which may run beside it during an upgrade, needs it.
    Index("ix_identity_collection_id_updated_at", "collection_id", "updated_at"),
    Index("ix_identity_collection_id_created_at_id", "collection_id", "created_at", "id"),
    Index("ix_identity_collection_id_label", "collection_id", "label"),
    Index("ix_identity_retain_until", "retain_until", postgresql_where=text("retain_until IS NOT NULL")),
    Index("ix_identity_unnamed", "collection_id", "created_at", "id", postgresql_where=text("NOT named")),
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
    # The caller has drawn the box of a face that the detector had not found.
    Column("manual", Boolean, nullable=False, server_default="false"),
    created_at(),
    PrimaryKeyConstraint("collection_id", "id"),
    # The index of this constraint also serves reads of an identity's templates.
    UniqueConstraint("collection_id", "identity_id", "model_id", "source_sha256"),
)


centroid = Table(
    "centroid",
    metadata,
    *_embedding_columns(),
    Column("template_count", Integer, nullable=False),
    # NULL until the code is computed: a release older than 0020 or a bulk load inserts no code.
    Column("code", BIT(CODE_BITS), key="binary_code", nullable=True),
    PrimaryKeyConstraint("collection_id", "identity_id", "model_id"),
    # A search by binary codes reads this index only, except for the nearest centroids.
    Index(
        "ix_centroid_coded",
        "collection_id",
        "model_id",
        postgresql_include=["identity_id", "binary_code"],
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


# Triggers insert a row for each changed centroid (`change_triggers`). Rows older than a few minutes are deleted.
centroid_change = Table(
    "centroid_change",
    metadata,
    Column("collection_id", Uuid, nullable=False),
    Column("model_id", Text, nullable=False),
    Column("identity_id", Uuid, nullable=False),
    # Id of the transaction that changed the centroid, by which a reader finds the changes since its last snapshot.
    Column("transaction_id", BigInteger, nullable=False),
    created_at(),
    Index("ix_centroid_change_collection_id_transaction_id", "collection_id", "transaction_id"),
)


correction = Table(
    "correction",
    metadata,
    *_embedding_columns(),
    Column("id", Uuid, nullable=False),
    created_at(),
    # NULL in rows that are older than the crop table.
    Column("source_sha256", LargeBinary, nullable=True),
    PrimaryKeyConstraint("collection_id", "id"),
    Index("ix_correction_collection_id_identity_id", "collection_id", "identity_id"),
)


crop = Table(
    "crop",
    metadata,
    Column("collection_id", Uuid, nullable=False),
    Column("identity_id", Uuid, nullable=False),
    # Equals `source_sha256` of the templates or the correction that were computed from the same face.
    Column("source_sha256", LargeBinary, nullable=False),
    Column("sealed", LargeBinary, key="encrypted", nullable=False),
    created_at(),
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
    # Both are set before the transaction that inserts the row commits. Erasing the identity deletes the response.
    Column("identity_id", Uuid, nullable=True),
    Column("answer", JSONB, key="response", nullable=True),
    created_at(),
    PrimaryKeyConstraint("collection_id", "key"),
    ForeignKeyConstraint(
        ["collection_id", "identity_id"], ["identity.collection_id", "identity.id"], ondelete="CASCADE"
    ),
    Index("ix_idempotency_created_at", "created_at"),
    Index("ix_idempotency_collection_id_identity_id", "collection_id", "identity_id"),
)
