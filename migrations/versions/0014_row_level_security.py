"""Row-level security on everything that belongs to a collection. Owners see all rows as before: `schema_serves` stays.

Each table in a transaction of its own, so that no two wait for each other behind a service that goes on; what was done
before an attempt was cut off is done again.

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
