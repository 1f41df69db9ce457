"""The index by which identities are listed: an example of how to expand a schema under a running service.

Releases of revision 0003 neither need nor notice the index, so that `schema_serves` stays as it is. It is built
concurrently: registrations go on meanwhile, and the migration is not one transaction. A build that was cut off leaves
an invalid index behind, which the next try replaces.

Revision ID: 0004
Revises: 0003
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

NAME = "ix_identity_collection_id_created_at_id"


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {NAME}")
        op.create_index(NAME, "identity", ["collection_id", "created_at", "id"], postgresql_concurrently=True)


def downgrade() -> None:
    with op.get_context().autocommit_block():
        op.drop_index(NAME, "identity", postgresql_concurrently=True)
