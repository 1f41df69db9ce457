"""How a collection enrols (quality, duplicates), and answers that are kept to be given again.

All of it is added beside what there is, with defaults that mean what releases before did: `schema_serves` stays.

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("collection", sa.Column("quality", sa.Text(), server_default="standard", nullable=False))
    op.add_column("collection", sa.Column("duplicates", sa.Text(), server_default="allow", nullable=False))
    op.create_check_constraint(
        op.f("ck_collection_known_quality"), "collection", "quality IN ('off', 'standard', 'strict')"
    )
    op.create_check_constraint(
        op.f("ck_collection_known_duplicates"), "collection", "duplicates IN ('allow', 'warn', 'reject')"
    )
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
            name="fk_idempotency_collection_id",
            ondelete="CASCADE",
        ),
    )
    op.create_index("ix_idempotency_collection_id_created_at", "idempotency", ["collection_id", "created_at"])
    op.create_index("ix_idempotency_collection_id_identity_id", "idempotency", ["collection_id", "identity_id"])


def downgrade() -> None:
    op.drop_table("idempotency")
    op.drop_constraint(op.f("ck_collection_known_duplicates"), "collection")
    op.drop_constraint(op.f("ck_collection_known_quality"), "collection")
    op.drop_column("collection", "duplicates")
    op.drop_column("collection", "quality")
