"""Compares external ids in NFC and without surrounding spaces, and keeps them as they were sent.

The columns are nullable; `schema_serves` does not change. Identities whose external ids differ in their form alone
remain as they are: they can be merged by their ids.

Revision ID: 0031
Revises: 0030
"""

import unicodedata

import sqlalchemy as sa
from alembic import context, op

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None

SPACES = "".join(chr(code) for code in range(1, 0x3001) if chr(code).isspace())
NAMES = "external_id", "external_id_sent"
IDENTITY, JOB_ROW = (
    sa.table(name, *map(sa.column, (*key, *NAMES)))
    for name, key in (("identity", ("collection_id", "id")), ("job_row", ("collection_id", "job_id", "number")))
)


def upgrade() -> None:
    # Without a transaction, each statement locks one table and the rows that it changes, for a short time.
    with op.get_context().autocommit_block():
        for table in (IDENTITY, JOB_ROW):
            op.execute(f"ALTER TABLE {table.name} ADD COLUMN IF NOT EXISTS external_id_sent text")
            if not context.is_offline_mode():  # an empty database has no names
                _convert(op.get_bind(), table)


def downgrade() -> None:
    for table in (IDENTITY, JOB_ROW):
        was_changed = table.c.external_id_sent.is_not(None)
        op.execute(sa.update(table).where(was_changed).values(external_id=table.c.external_id_sent))
        op.drop_column(table.name, "external_id_sent")


def _convert(connection: sa.Connection, table: sa.TableClause) -> None:
    has_other_form = table.c.external_id.op("IS NOT NFC")(sa.literal_column("NORMALIZED"))
    has_spaces = sa.func.btrim(table.c.external_id, SPACES) != table.c.external_id
    others = sa.select(table).where(table.c.external_id_sent.is_(None), sa.or_(has_other_form, has_spaces))
    keys = [column for column in table.c if column.name not in NAMES]
    for row in connection.execute(others).all():
        name = unicodedata.normalize("NFC", row.external_id.strip())
        change = sa.update(table).where(*(key == row._mapping[key.name] for key in keys))
        if table is IDENTITY:
            other = IDENTITY.alias()
            taken = sa.exists().where(other.c.collection_id == row.collection_id, other.c.external_id == name)
            change = change.where(~taken)
        connection.execute(change.values(external_id=name, external_id_sent=row.external_id))
