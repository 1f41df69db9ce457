"""Adds the schema of the task queue, `procrastinate`.

The tables of the registry stay as they are; `schema_serves` does not change.

Revision ID: 0008
Revises: 0007
"""

from alembic import op

from service.gallery.storage import queue_schema

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    context = op.get_context()
    if context.as_sql:
        context.impl.static_output(queue_schema.script())
    else:
        queue_schema.install(op.get_bind())


def downgrade() -> None:
    op.execute(f"DROP SCHEMA IF EXISTS {queue_schema.SCHEMA} CASCADE")
