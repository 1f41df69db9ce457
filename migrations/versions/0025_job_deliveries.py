"""Adds the deliveries of a job's tasks that have not ended in an orderly way.

The column is nullable; `schema_serves` does not change.

Revision ID: 0025
Revises: 0024
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("job", sa.Column("deliveries", JSONB(), nullable=True))


def downgrade() -> None:
    op.drop_column("job", "deliveries")
