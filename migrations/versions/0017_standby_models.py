"""Adds the secondary model of a collection and the setting to store crops.

The columns have defaults; `schema_serves` does not change. An older release enrols, deletes, splits and corrects under
the active model only. The identities that it enrols are reported as missing under the secondary model. Therefore
collections should get a secondary model or store crops only after all processes run this release or a later one.

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
