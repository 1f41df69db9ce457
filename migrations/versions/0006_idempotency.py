"""Adds the stored responses of idempotent requests.

The migration only adds a table; `schema_serves` does not change.

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "idempotency",
        sa.Column("collection_id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("request_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("identity_id", sa.Uuid(), nullable=True),
        sa.Column("answer", JSONB(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("collection_id", "key", name="pk_idempotency"),
        sa.ForeignKeyConstraint(
            ["collection_id", "identity_id"],
            ["identity.collection_id", "identity.id"],
            name="fk_idempotency_collection_id_identity_id",
            ondelete="CASCADE",
        ),
    )
    op.create_index("ix_idempotency_collection_id_created_at", "idempotency", ["collection_id", "created_at"])
    op.create_index("ix_idempotency_collection_id_identity_id", "idempotency", ["collection_id", "identity_id"])


def downgrade() -> None:
    op.drop_table("idempotency")
