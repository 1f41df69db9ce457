"""Adds webhooks and their deliveries.

The migration only adds tables; `schema_serves` does not change.

Revision ID: 0026
Revises: 0025
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None
ENTERED = "(SELECT string_to_array(current_setting('registry.collections', true), ','))::uuid[]"
EVERYTHING = "(SELECT current_setting('registry.everything', true)) IS NOT DISTINCT FROM 'on'"
ROW = f"collection_id = ANY ({ENTERED}) OR {EVERYTHING}"


def upgrade() -> None:
    op.create_table(
        "webhook",
        sa.Column("collection_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("events", ARRAY(sa.Text(), dimensions=1), nullable=False),
        sa.Column("last_number", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("collection_id", "id", name="pk_webhook"),
        sa.ForeignKeyConstraint(
            ["collection_id"], ["collection.id"], name="fk_webhook_collection_id", ondelete="CASCADE"
        ),
    )
    op.create_table(
        "webhook_delivery",
        sa.Column("collection_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("webhook_id", sa.Uuid(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("body", JSONB(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=True),
        sa.Column("state", sa.Text(), server_default="waiting", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("collection_id", "id", name="pk_webhook_delivery"),
        sa.ForeignKeyConstraint(
            ["collection_id", "webhook_id"],
            ["webhook.collection_id", "webhook.id"],
            name="fk_webhook_delivery_collection_id_webhook_id",
            ondelete="CASCADE",
        ),
        sa.UniqueConstraint(
            "collection_id", "webhook_id", "job_id", name="uq_webhook_delivery_collection_id_webhook_id_job_id"
        ),
        sa.CheckConstraint("state IN ('waiting', 'delivered', 'failed')", name="ck_webhook_delivery_known_state"),
    )
    op.create_index(
        "ix_webhook_delivery_collection_id_webhook_id_created_at",
        "webhook_delivery",
        ["collection_id", "webhook_id", "created_at"],
    )
    for table in ("webhook", "webhook_delivery"):
        op.execute(f"CREATE POLICY one_collection ON {table} USING ({ROW}) WITH CHECK ({ROW})")
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")


def downgrade() -> None:
    op.drop_table("webhook_delivery")
    op.drop_table("webhook")
