"""Adds indexes of the identities without a name and of the waiting rows of jobs.

The migration is separate from 0029 because an index that is built concurrently ends the transaction: after an
interruption, only a migration that can run again completes. `schema_serves` does not change.

Revision ID: 0030
Revises: 0029
"""

from alembic import op

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.get_context().autocommit_block():
        _replace("ix_identity_unnamed", "identity (collection_id, created_at, id) WHERE NOT named")
        _replace("ix_job_row_waiting", "job_row (collection_id, job_id, number) WHERE status IS NULL")


def downgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS ix_job_row_waiting")
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS ix_identity_unnamed")


def _replace(name: str, rows: str) -> None:
    op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")  # of an interrupted migration
    op.execute(f"CREATE INDEX CONCURRENTLY {name} ON {rows}")
