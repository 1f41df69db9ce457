"""Adds the id of the key that computed the MACs of an audit chain's head.

The column is nullable: a release that does not write it works with the migrated schema, and heads of earlier entries
have no id. `schema_serves` does not change.

Revision ID: 0024
Revises: 0023
"""

from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE audit_head ADD COLUMN mac_key_id BYTEA")


def downgrade() -> None:
    op.execute("ALTER TABLE audit_head DROP COLUMN mac_key_id")
