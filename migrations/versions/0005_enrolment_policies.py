"""Adds the enrolment policies of collections: quality and duplicates.

The defaults are the behaviour of earlier releases, so `schema_serves` does not change. A migration during operation
locks one table at a time: with locks on two tables it could deadlock with requests that lock them in another order.

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
