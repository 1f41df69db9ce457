"""Adds API keys and `schema_serves`.

`schema_serves` contains the oldest revision whose release works with the current schema.

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "api_key",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("scopes", sa.ARRAY(sa.Text(), dimensions=1), nullable=False),
        sa.Column("collection_id", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_api_key"),
        sa.UniqueConstraint("digest", name="uq_api_key_digest"),
        sa.ForeignKeyConstraint(
            ["collection_id"], ["collection.id"], name="fk_api_key_collection_id", ondelete="CASCADE"
        ),
    )
    serves = op.create_table("schema_serves", sa.Column("from_revision", sa.Text(), nullable=False))
    op.bulk_insert(serves, [{"from_revision": revision}])


def downgrade() -> None:
    op.drop_table("schema_serves")
    op.drop_table("api_key")
