"""The job queue, in a schema of its own. Nothing of ours changes: `schema_serves` stays.

Revision ID: 0008
Revises: 0007
"""

from alembic import op

from service.gallery import queue_schema

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    queue_schema.install(op.get_bind())


def downgrade() -> None:
    queue_schema.remove(op.get_bind())
