"""Adds two columns to collection: the rule for added pictures, and the time of deletion.

Both have a default that an older release need not know; `schema_serves` does not change.

Revision ID: 0023
Revises: 0022
"""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("collection", sa.Column("additions", sa.Text, nullable=False, server_default="match"))
    op.add_column("collection", sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True))
    op.create_check_constraint(op.f("ck_collection_known_additions"), "collection", "additions IN ('match', 'any')")


def downgrade() -> None:
    op.drop_column("collection", "deleted_at")
    op.drop_column("collection", "additions")
