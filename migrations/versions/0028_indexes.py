"""Adds indexes for the filter by label and for the deletion of expired responses of all collections.

An identity's `created_at` becomes the time of its insertion instead of that of the transaction. The migration changes
no rows; `schema_serves` does not change.

Revision ID: 0028
Revises: 0027
"""

from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE identity ALTER COLUMN created_at SET DEFAULT clock_timestamp()")
    with op.get_context().autocommit_block():
        _replace("ix_identity_collection_id_label", "identity (collection_id, label)")
        _replace("ix_idempotency_created_at", "idempotency (created_at)")
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS ix_idempotency_collection_id_created_at")


def downgrade() -> None:
    op.execute("ALTER TABLE identity ALTER COLUMN created_at SET DEFAULT now()")
    with op.get_context().autocommit_block():
        _replace("ix_idempotency_collection_id_created_at", "idempotency (collection_id, created_at)")
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS ix_idempotency_created_at")
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS ix_identity_collection_id_label")


def _replace(name: str, columns: str) -> None:
    op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")  # of an interrupted migration
    op.execute(f"CREATE INDEX CONCURRENTLY {name} ON {columns}")
