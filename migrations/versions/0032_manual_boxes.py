"""Marks templates of faces whose boxes were drawn by the caller.

The column has a default; `schema_serves` does not change.

Revision ID: 0032
Revises: 0031
"""

import sqlalchemy as sa
from alembic import op

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("template", sa.Column("manual", sa.Boolean(), nullable=False, server_default="false"))


def downgrade() -> None:
    op.drop_column("template", "manual")
