"""Adds identities without a name, groups that a job has formed from them, and an index of the waiting rows of jobs.

An older release works with the schema: its identities have names. `schema_serves` does not change.

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
    with op.get_context().autocommit_block():
        _replace("ix_identity_unnamed", "identity (collection_id, created_at, id) WHERE NOT named")
        _replace("ix_job_row_waiting", "job_row (collection_id, job_id, number) WHERE status IS NULL")


def downgrade() -> None:
    op.drop_index("ix_job_row_waiting", "job_row")
    op.drop_table("group_member")
    op.drop_column("identity", "named")


def _replace(name: str, rows: str) -> None:
    op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")  # of an interrupted migration
    op.execute(f"CREATE INDEX CONCURRENTLY {name} ON {rows}")
