"""Marks templates of faces whose boxes were drawn by the caller, and adds boxes to the rows of bulk enrolments.

The columns have defaults; `schema_serves` does not change.

Revision ID: 0032
Revises: 0031
"""

from alembic import op

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Without a transaction, each statement locks one table: enrolments lock the two in the other order.
    with op.get_context().autocommit_block():
        op.execute("ALTER TABLE job_row ADD COLUMN IF NOT EXISTS box jsonb")
        op.execute("ALTER TABLE template ADD COLUMN IF NOT EXISTS manual boolean NOT NULL DEFAULT false")


def downgrade() -> None:
    op.drop_column("template", "manual")
    op.drop_column("job_row", "box")
