"""Adds corrections: embeddings of pictures that a reviewer has marked as not showing an identity.

The migration only adds a table; `schema_serves` does not change.

Revision ID: 0013
Revises: 0012
"""

import sqlalchemy as sa
from alembic import op
from pgvector.sqlalchemy import Vector

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "correction",
        sa.Column("collection_id", sa.Uuid(), nullable=False),
        sa.Column("identity_id", sa.Uuid(), nullable=False),
        sa.Column("model_id", sa.Text(), nullable=False),
        sa.Column("dim", sa.Integer(), nullable=False),
        sa.Column("embedding", Vector(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("collection_id", "id", name="pk_correction"),
        sa.ForeignKeyConstraint(
            ["collection_id", "identity_id"],
            ["identity.collection_id", "identity.id"],
            name="fk_correction_collection_id_identity_id",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(["model_id", "dim"], ["model.id", "model.dim"], name="fk_correction_model_id_dim"),
        sa.CheckConstraint("vector_dims(embedding) = dim", name="ck_correction_embedding_dim"),
    )
    op.create_index("ix_correction_collection_id_identity_id", "correction", ["collection_id", "identity_id"])


def downgrade() -> None:
    op.drop_table("correction")
