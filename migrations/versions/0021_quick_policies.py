"""Speeds up the row-level security policies.

Most transactions access a single collection, so the policies compare the first permitted id before they search the
list. The permitted rows are the same; `schema_serves` does not change. Each table is changed in a separate transaction.
An interrupted migration starts again with the first table.

Revision ID: 0021
Revises: 0020
"""

from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None
TABLES = (
    "identity",
    "template",
    "centroid",
    "correction",
    "crop",
    "idempotency",
    "job",
    "job_row",
    "audit",
    "audit_head",
)
ENTERED = "current_setting('registry.collections', true)"
FIRST = f"(SELECT nullif(split_part({ENTERED}, ',', 1), '')::uuid)"
ANY = f"(SELECT string_to_array({ENTERED}, ',')::uuid[])"
EVERYTHING = "(SELECT current_setting('registry.everything', true)) IS NOT DISTINCT FROM 'on'"
BEFORE = f"collection_id = ANY ({ANY}::uuid[]) OR {EVERYTHING}"
ROW = f"collection_id = {FIRST} OR {EVERYTHING} OR collection_id = ANY ({ANY}::uuid[])"


def upgrade() -> None:
    _alter(ROW)


def downgrade() -> None:
    _alter(BEFORE)


def _alter(row: str) -> None:
    with op.get_context().autocommit_block():
        for table in TABLES:
            op.execute(f"ALTER POLICY one_collection ON {table} USING ({row}) WITH CHECK ({row})")
