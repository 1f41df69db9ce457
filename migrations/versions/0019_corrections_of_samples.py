"""Adds the reference from a correction to its crop.

The column is nullable; `schema_serves` does not change.

Revision ID: 0019
Revises: 0018
"""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("correction", sa.Column("source_sha256", sa.LargeBinary(), nullable=True))
    op.execute("ALTER TABLE correction ALTER COLUMN source_sha256 SET STATISTICS 0")


def downgrade() -> None:
    op.drop_column("correction", "source_sha256")
