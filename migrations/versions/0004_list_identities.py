"""Adds the index for listing identities. An example of a schema change during operation.

Releases of revision 0003 work with and without the index, so `schema_serves` does not change. The index is built
concurrently: registrations continue meanwhile, and the migration is not one transaction. An interrupted build leaves
an invalid index, which the next attempt replaces.

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
