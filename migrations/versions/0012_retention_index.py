"""Adds the index for finding identities whose retention period has ended.

The migration only adds an index; `schema_serves` does not change.

Revision ID: 0012
Revises: 0011
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None
NAME = "ix_identity_retain_until"


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {NAME}")  # an interrupted build leaves an invalid index
        op.create_index(
            NAME,
            "identity",
            ["retain_until"],
            postgresql_where=sa.text("retain_until IS NOT NULL"),
            postgresql_concurrently=True,
        )


def downgrade() -> None:
    with op.get_context().autocommit_block():
        op.drop_index(NAME, "identity", postgresql_concurrently=True)
