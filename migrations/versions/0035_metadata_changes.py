"""Records which identities' metadata change, so that indexes in memory can contain the fields that filters use.

An older release works with the schema: it applies such a change like one of the centroid. The trigger also records the
changes of an older release.

Revision ID: 0035
Revises: 0034
"""

from alembic import context, op

from service.gallery.storage import distribution
from service.gallery.storage.change_triggers import DROP_METADATA_TRIGGER, METADATA_FUNCTION, METADATA_TRIGGER

revision = "0035"
down_revision = "0034"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if context.is_offline_mode():
        for statement in (METADATA_FUNCTION, METADATA_TRIGGER):
            op.execute(statement)
        return
    distribution.create_metadata_trigger(op.get_bind())


def downgrade() -> None:
    op.execute(DROP_METADATA_TRIGGER)
    op.execute("DROP FUNCTION record_metadata_change()")
