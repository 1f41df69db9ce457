"""Adds identities without a name and groups that a job has formed from them.

An identity's `updated_at` becomes the time of its insertion instead of that of the transaction, as `created_at`. An
older release works with the schema: its identities have names. `schema_serves` does not change.

Revision ID: 0029
Revises: 0028
"""

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None
ENTERED = "current_setting('registry.collections', true)"
FIRST = f"(SELECT nullif(split_part({ENTERED}, ',', 1), '')::uuid)"
ANY = f"(SELECT string_to_array({ENTERED}, ',')::uuid[])"
EVERYTHING = "(SELECT current_setting('registry.everything', true)) IS NOT DISTINCT FROM 'on'"
ROW = f"collection_id = {FIRST} OR {EVERYTHING} OR collection_id = ANY ({ANY}::uuid[])"


def upgrade() -> None:
    op.execute("ALTER TABLE identity ALTER COLUMN updated_at SET DEFAULT clock_timestamp()")
    op.add_column("identity", sa.Column("named", sa.Boolean(), nullable=False, server_default="true"))
    op.create_table(
        "group_member",
        sa.Column("collection_id", sa.Uuid(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("identity_id", sa.Uuid(), nullable=False),
        sa.Column("similarity", sa.REAL(), nullable=False),
        sa.PrimaryKeyConstraint("collection_id", "job_id", "number", "position"),
        sa.ForeignKeyConstraint(["collection_id", "job_id"], ["job.collection_id", "job.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["collection_id", "identity_id"], ["identity.collection_id", "identity.id"], ondelete="CASCADE"
        ),
    )
    op.create_index("ix_group_member_collection_id_identity_id", "group_member", ["collection_id", "identity_id"])
    op.execute(f"CREATE POLICY one_collection ON group_member USING ({ROW}) WITH CHECK ({ROW})")
    op.execute("ALTER TABLE group_member ENABLE ROW LEVEL SECURITY")


def downgrade() -> None:
    op.drop_table("group_member")
    op.drop_column("identity", "named")
    op.execute("ALTER TABLE identity ALTER COLUMN updated_at SET DEFAULT now()")
