"""Records which centroids change, so that indexes in memory can follow the table, and drops the HNSW indexes.

An older release works with the schema, but creates HNSW indexes again; `schema_serves` does not change. The triggers
also record the changes of an older release.

Revision ID: 0027
Revises: 0026
"""

import sqlalchemy as sa
from alembic import op

from service.gallery.storage.change_triggers import CENTROID_FUNCTION, CENTROID_TRIGGERS

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None
ENTERED = "current_setting('registry.collections', true)"
FIRST = f"(SELECT nullif(split_part({ENTERED}, ',', 1), '')::uuid)"
ANY = f"(SELECT string_to_array({ENTERED}, ',')::uuid[])"
EVERYTHING = "(SELECT current_setting('registry.everything', true)) IS NOT DISTINCT FROM 'on'"
ROW = f"collection_id = {FIRST} OR {EVERYTHING} OR collection_id = ANY ({ANY}::uuid[])"

DROP_HNSW = """
DO $$
DECLARE name text;
BEGIN
    FOR name IN SELECT indexname FROM pg_indexes
        WHERE schemaname = 'public' AND tablename = 'centroid' AND indexname LIKE 'ann\\_%' LOOP
        EXECUTE format('DROP INDEX public.%I', name);
    END LOOP;
END
$$
"""


def upgrade() -> None:
    op.create_table(
        "centroid_change",
        sa.Column("collection_id", sa.Uuid(), nullable=False),
        sa.Column("model_id", sa.Text(), nullable=False),
        sa.Column("identity_id", sa.Uuid(), nullable=False),
        sa.Column("transaction_id", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
    )
    op.create_index(
        "ix_centroid_change_collection_id_transaction_id", "centroid_change", ["collection_id", "transaction_id"]
    )
    op.execute(f"CREATE POLICY one_collection ON centroid_change USING ({ROW}) WITH CHECK ({ROW})")
    op.execute("ALTER TABLE centroid_change ENABLE ROW LEVEL SECURITY")
    op.execute(CENTROID_FUNCTION)
    for statement in CENTROID_TRIGGERS:
        op.execute(statement)
    op.execute(DROP_HNSW)


def downgrade() -> None:
    for event in ("insert", "update", "delete"):
        op.execute(f"DROP TRIGGER record_{event} ON centroid")
    op.execute("DROP FUNCTION record_centroid_changes()")
    op.drop_table("centroid_change")
