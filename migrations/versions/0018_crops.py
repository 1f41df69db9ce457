"""Adds encrypted, aligned crops of enrolled faces.

The migration only adds a table; `schema_serves` does not change.

Revision ID: 0018
Revises: 0017
"""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None
ENTERED = "(SELECT string_to_array(current_setting('registry.collections', true), ','))::uuid[]"
EVERYTHING = "(SELECT current_setting('registry.everything', true)) IS NOT DISTINCT FROM 'on'"
ROW = f"collection_id = ANY ({ENTERED}) OR {EVERYTHING}"


def upgrade() -> None:
    op.create_table(
        "crop",
        sa.Column("collection_id", sa.Uuid(), nullable=False),
        sa.Column("identity_id", sa.Uuid(), nullable=False),
        sa.Column("source_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("collection_id", "identity_id", "source_sha256", name="pk_crop"),
        sa.ForeignKeyConstraint(
            ["collection_id", "identity_id"],
            ["identity.collection_id", "identity.id"],
            name="fk_crop_collection_id_identity_id",
            ondelete="CASCADE",
        ),
    )
    # Encrypted data cannot be compressed, and statistics would contain copies of it.
    op.execute("ALTER TABLE crop ALTER COLUMN sealed SET STORAGE EXTERNAL")
    for column in ("sealed", "source_sha256"):
        op.execute(f"ALTER TABLE crop ALTER COLUMN {column} SET STATISTICS 0")
    op.execute(f"CREATE POLICY one_collection ON crop USING ({ROW}) WITH CHECK ({ROW})")
    op.execute("ALTER TABLE crop ENABLE ROW LEVEL SECURITY")


def downgrade() -> None:
    op.drop_table("crop")
