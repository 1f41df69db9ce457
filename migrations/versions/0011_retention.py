"""Adds the end of the retention period to identities.

The column is nullable; `schema_serves` does not change.

Revision ID: 0011
Revises: 0010
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("identity", sa.Column("retain_until", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.drop_column("identity", "retain_until")
