"""Adds a default error rate to collections. Allows templates without a quality, since some models estimate none.

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("collection", sa.Column("fmr", sa.Double(), nullable=True))
    op.add_column("collection", sa.Column("fpir", sa.Double(), nullable=True))
    op.create_check_constraint("one_default_rate", "collection", "num_nonnulls(fmr, fpir) <= 1")
    op.alter_column("template", "quality", nullable=True)


def downgrade() -> None:
    op.execute("UPDATE template SET quality = 0 WHERE quality IS NULL")
    op.alter_column("template", "quality", nullable=False)
    op.drop_constraint("one_default_rate", "collection", type_="check")
    op.drop_column("collection", "fpir")
    op.drop_column("collection", "fmr")
