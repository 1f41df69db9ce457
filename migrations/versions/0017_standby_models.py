"""A second model beside a collection's own, and whether crops are kept. Columns with defaults: `schema_serves` stays.

A release that knows nothing of them enrols under the collection's own model alone; who it enrols is counted as lacking
when the other model is to become active. What it deletes, splits or takes back it does under that model alone: no
collection should get a second model, or keep crops, before every process is of this release.

Revision ID: 0017
Revises: 0016
"""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("collection", sa.Column("standby_model_id", sa.Text(), nullable=True))
    for name in ("standby_activates", "store_crops"):
        op.add_column("collection", sa.Column(name, sa.Boolean(), server_default=sa.false(), nullable=False))
    op.create_foreign_key("fk_collection_standby_model_id", "collection", "model", ["standby_model_id"], ["id"])
    op.create_check_constraint(op.f("ck_collection_another_model"), "collection", "standby_model_id <> model_id")


def downgrade() -> None:
    for name in ("standby_model_id", "standby_activates", "store_crops"):
        op.drop_column("collection", name)
