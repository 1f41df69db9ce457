"""Marks templates of faces whose boxes were drawn by the caller, and adds boxes to the rows of bulk enrolments.

The columns have defaults; `schema_serves` does not change.

Revision ID: 0032
Revises: 0031
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("job_row", sa.Column("box", postgresql.JSONB(), nullable=True))
    op.add_column("template", sa.Column("manual", sa.Boolean(), nullable=False, server_default="false"))


def downgrade() -> None:
    op.drop_column("template", "manual")
    op.drop_column("job_row", "box")
