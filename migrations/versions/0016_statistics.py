"""Disables the planner's statistics of columns with personal data.

ANALYZE copies values, such as whole embeddings, into pg_statistic. Each column is changed in a separate transaction.
An interrupted migration starts again with the first column. `schema_serves` does not change.

Revision ID: 0016
Revises: 0015
"""

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None
COLUMNS = (
    ("template", "embedding"),
    ("template", "source_sha256"),
    ("centroid", "embedding"),
    ("correction", "embedding"),
    ("identity", "label"),
    ("idempotency", "answer"),
    ("job_row", "label"),
    ("job_row", "metadata"),
    ("job_row", "source"),
)


def upgrade() -> None:
    with op.get_context().autocommit_block():
        for table, column in COLUMNS:
            op.execute(f"ALTER TABLE {table} ALTER COLUMN {column} SET STATISTICS 0")


def downgrade() -> None:
    with op.get_context().autocommit_block():
        for table, column in COLUMNS:
            op.execute(f"ALTER TABLE {table} ALTER COLUMN {column} SET STATISTICS -1")
