"""Enables row-level security on all tables with a collection.

The policies do not apply to the owner of the tables; `schema_serves` does not change. Each table is changed in a
separate transaction, so that the migration never holds locks on two tables. An interrupted migration starts again with
the first table.

Revision ID: 0014
Revises: 0013
"""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None
TABLES = ("identity", "template", "centroid", "correction", "idempotency", "job", "job_row", "audit", "audit_head")
ENTERED = "(SELECT string_to_array(current_setting('registry.collections', true), ','))::uuid[]"
EVERYTHING = "(SELECT current_setting('registry.everything', true)) IS NOT DISTINCT FROM 'on'"
ROW = f"collection_id = ANY ({ENTERED}) OR {EVERYTHING}"


def upgrade() -> None:
    with op.get_context().autocommit_block():
        for table in TABLES:
            op.execute(f"DROP POLICY IF EXISTS one_collection ON {table}")
            op.execute(f"CREATE POLICY one_collection ON {table} USING ({ROW}) WITH CHECK ({ROW})")
            op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")


def downgrade() -> None:
    with op.get_context().autocommit_block():
        for table in TABLES:
            op.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")
            op.execute(f"DROP POLICY IF EXISTS one_collection ON {table}")
