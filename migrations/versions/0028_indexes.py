"""Adds indexes for the filter by label and for the deletion of expired responses of all collections.

The migration only changes indexes; `schema_serves` does not change.

Revision ID: 0028
Revises: 0027
"""

from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.get_context().autocommit_block():
        _replace("ix_identity_collection_id_label", "identity (collection_id, label)")
        _replace("ix_idempotency_created_at", "idempotency (created_at)")
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS ix_idempotency_collection_id_created_at")


def downgrade() -> None:
    with op.get_context().autocommit_block():
        _replace("ix_idempotency_collection_id_created_at", "idempotency (collection_id, created_at)")
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS ix_idempotency_created_at")
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS ix_identity_collection_id_label")


def _replace(name: str, columns: str) -> None:
    op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")  # of an interrupted migration
    op.execute(f"CREATE INDEX CONCURRENTLY {name} ON {columns}")
