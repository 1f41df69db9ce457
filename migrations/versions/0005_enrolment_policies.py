"""How a collection enrols: quality and duplicates.

Added with defaults that mean what releases before did: `schema_serves` stays. A migration that runs beside a service
locks one table only: two of them, in whatever order, would deadlock with requests that take them in the other.

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("collection", sa.Column("quality", sa.Text(), server_default="standard", nullable=False))
    op.add_column("collection", sa.Column("duplicates", sa.Text(), server_default="allow", nullable=False))
    op.create_check_constraint(
        op.f("ck_collection_known_quality"), "collection", "quality IN ('off', 'standard', 'strict')"
    )
    op.create_check_constraint(
        op.f("ck_collection_known_duplicates"), "collection", "duplicates IN ('allow', 'warn', 'reject')"
    )


def downgrade() -> None:
    op.drop_constraint(op.f("ck_collection_known_duplicates"), "collection")
    op.drop_constraint(op.f("ck_collection_known_quality"), "collection")
    op.drop_column("collection", "duplicates")
    op.drop_column("collection", "quality")
