"""Adds the functions that name the collections whose rows a transaction may see.

Their form differs between one server and Citus, so that the service executes the same statements on both. An older
release sets the settings itself; `schema_serves` does not change.

Revision ID: 0033
Revises: 0032
"""

from alembic import op

from service.gallery.storage.visible_collections import SINGLE_SERVER

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for function in SINGLE_SERVER.functions:
        op.execute(function)


def downgrade() -> None:
    op.execute("DROP FUNCTION allow_all_collections()")
    op.execute("DROP FUNCTION allow_collection(uuid)")
