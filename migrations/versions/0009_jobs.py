"""Adds background jobs and their rows.

The migration only adds tables; `schema_serves` does not change.

Revision ID: 0009
Revises: 0008
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "job",
        sa.Column("collection_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default="waiting", nullable=False),
        sa.Column("request", JSONB(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=True),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("collection_id", "id", name="pk_job"),
        sa.ForeignKeyConstraint(["collection_id"], ["collection.id"], name="fk_job_collection_id", ondelete="CASCADE"),
        sa.CheckConstraint("state IN ('waiting', 'running', 'done', 'failed', 'cancelled')", name="ck_job_known_state"),
    )
    op.create_table(
        "job_row",
        sa.Column("collection_id", sa.Uuid(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=True),
        sa.Column("metadata", JSONB(), nullable=True),
        sa.Column("status", sa.Text(), nullable=True),
        sa.Column("identity_id", sa.Uuid(), nullable=True),
        sa.Column("template_id", sa.Uuid(), nullable=True),
        sa.Column("code", sa.Text(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("done_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("collection_id", "job_id", "number", name="pk_job_row"),
        sa.ForeignKeyConstraint(
            ["collection_id", "job_id"],
            ["job.collection_id", "job.id"],
            name="fk_job_row_collection_id_job_id",
            ondelete="CASCADE",
        ),
        sa.CheckConstraint("status IN ('accepted', 'duplicate', 'rejected', 'failed')", name="ck_job_row_known_status"),
    )
    op.create_index("ix_job_row_collection_id_external_id", "job_row", ["collection_id", "external_id"])
    op.create_index("ix_job_row_collection_id_identity_id", "job_row", ["collection_id", "identity_id"])


def downgrade() -> None:
    op.drop_table("job_row")
    op.drop_table("job")
