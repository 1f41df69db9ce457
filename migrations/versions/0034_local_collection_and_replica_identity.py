"""Adds the view through which the service reads and locks collections, and a replica identity to `centroid_change`.

Logical replication refuses to delete rows of a table without one. Citus moves shards by logical replication.

Revision ID: 0034
Revises: 0033
"""

from alembic import context, op

from service.gallery.storage import distribution, local_collections

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE centroid_change REPLICA IDENTITY FULL")
    if context.is_offline_mode():
        op.execute(local_collections.create_of("collection"))
        return
    distribution.create_local_view(op.get_bind())


def downgrade() -> None:
    # Earlier migrations change triggers and policies, which Citus does not permit on distributed tables.
    if not context.is_offline_mode() and distribution.is_distributed(op.get_bind()):
        list(distribution.undistribute(op.get_bind()))
    op.execute(local_collections.DROP)
    op.execute("ALTER TABLE centroid_change REPLICA IDENTITY DEFAULT")
