"""Adds collections, models, identities, templates and centroids.

Revision ID: 0001
Revises:
"""

import sqlalchemy as sa
from alembic import op
from pgvector.sqlalchemy import Vector
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("CREATE EXTENSION IF NOT EXISTS vector")
    op.create_table(
        "model",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("dim", sa.Integer(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        _created_at(),
        sa.PrimaryKeyConstraint("id", name="pk_model"),
        sa.UniqueConstraint("id", "dim", name="uq_model_id_dim"),
    )
    op.create_table(
        "collection",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("model_id", sa.Text(), nullable=False),
        _created_at(),
        sa.PrimaryKeyConstraint("id", name="pk_collection"),
        sa.UniqueConstraint("name", name="uq_collection_name"),
        sa.ForeignKeyConstraint(["model_id"], ["model.id"], name="fk_collection_model_id"),
    )
    op.create_table(
        "identity",
        sa.Column("collection_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("metadata", postgresql.JSONB(), server_default="{}", nullable=False),
        _created_at(),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("collection_id", "id", name="pk_identity"),
        sa.UniqueConstraint("collection_id", "external_id", name="uq_identity_collection_id_external_id"),
        sa.ForeignKeyConstraint(["collection_id"], ["collection.id"], name="fk_identity_collection_id"),
    )
    op.create_table(
        "template",
        *_embedding_columns("template"),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("source_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("box", sa.ARRAY(sa.REAL(), dimensions=1), nullable=False),
        sa.Column("detection_score", sa.REAL(), nullable=False),
        sa.Column("quality", sa.REAL(), nullable=False),
        _created_at(),
        sa.PrimaryKeyConstraint("collection_id", "id", name="pk_template"),
        sa.UniqueConstraint(
            "collection_id",
            "identity_id",
            "model_id",
            "source_sha256",
            name="uq_template_collection_id_identity_id_model_id_source_sha256",
        ),
    )
    op.create_table(
        "centroid",
        *_embedding_columns("centroid"),
        sa.Column("template_count", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("collection_id", "identity_id", "model_id", name="pk_centroid"),
    )
    # By default PostgreSQL moves vectors of more than 2 KB out of line (TOAST), which makes a scan ten times slower.
    op.execute("ALTER TABLE template ALTER COLUMN embedding SET STORAGE MAIN")
    op.execute("ALTER TABLE centroid ALTER COLUMN embedding SET STORAGE MAIN")


def downgrade() -> None:
    """Keeps the extension, because other tables in the database may use it."""
    for table in ("centroid", "template", "identity", "collection", "model"):
        op.drop_table(table)


def _created_at() -> "sa.Column[object]":
    return sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False)


def _embedding_columns(table: str) -> "list[sa.Column[object] | sa.Constraint]":
    return [
        sa.Column("collection_id", sa.Uuid(), nullable=False),
        sa.Column("identity_id", sa.Uuid(), nullable=False),
        sa.Column("model_id", sa.Text(), nullable=False),
        sa.Column("dim", sa.Integer(), nullable=False),
        sa.Column("embedding", Vector(), nullable=False),
        sa.ForeignKeyConstraint(
            ["collection_id", "identity_id"],
            ["identity.collection_id", "identity.id"],
            name=f"fk_{table}_collection_id_identity_id",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(["model_id", "dim"], ["model.id", "model.dim"], name=f"fk_{table}_model_id_dim"),
        sa.CheckConstraint("vector_dims(embedding) = dim", name="embedding_dim"),
    ]
