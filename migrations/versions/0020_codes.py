"""Adds the binary codes of centroids, which searches in large collections compare.

The column is nullable; `schema_serves` does not change. The maintenance task computes the codes of existing centroids
and of those that an older release writes.

Revision ID: 0020
Revises: 0019
"""

from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None
CODED, UNCODED = "ix_centroid_coded", "ix_centroid_uncoded"


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute("ALTER TABLE centroid ADD COLUMN IF NOT EXISTS code bit(512)")
        op.execute("ALTER TABLE centroid ALTER COLUMN code SET STATISTICS 0")
        for name in (CODED, UNCODED):
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
        op.execute(
            f"CREATE INDEX CONCURRENTLY {CODED} ON centroid (collection_id, model_id) INCLUDE (identity_id, code) "
            "WHERE code IS NOT NULL"
        )
        op.execute(
            f"CREATE INDEX CONCURRENTLY {UNCODED} ON centroid (collection_id, model_id) INCLUDE (identity_id) "
            "WHERE code IS NULL"
        )


def downgrade() -> None:
    with op.get_context().autocommit_block():
        for name in (CODED, UNCODED):
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
        op.execute("ALTER TABLE centroid DROP COLUMN IF EXISTS code")
