"""The triggers that record changes for indexes in memory, as SQL for migrations, restores and Citus.

Those of centroids fire once per statement, so that a bulk load records its rows by one insertion per statement. That of
the metadata fires for a row whose metadata change, since most updates of identities change something else.
"""

_INSERT = (
    "(collection_id, model_id, identity_id, transaction_id) "
    "SELECT collection_id, model_id, identity_id, pg_current_xact_id()::text::bigint FROM"
)
_CREATE = "CREATE OR REPLACE FUNCTION public.{}() RETURNS trigger LANGUAGE plpgsql AS $$"
_OF_CENTROIDS, _OF_METADATA = _CREATE.format("record_centroid_changes"), _CREATE.format("record_metadata_change")
CENTROID_FUNCTION = f"""
{_OF_CENTROIDS}
BEGIN
    INSERT INTO public.centroid_change {_INSERT} changed;
    RETURN NULL;
END
$$
"""
METADATA_FUNCTION = f"""
{_OF_METADATA}
BEGIN
    INSERT INTO public.centroid_change {_INSERT} public.centroid
    WHERE collection_id = NEW.collection_id AND identity_id = NEW.id;
    RETURN NULL;
END
$$
"""
FUNCTIONS = CENTROID_FUNCTION, METADATA_FUNCTION
"""A dump of tables contains their triggers and not the functions, so a restore creates the functions first."""


def _shard(table: str) -> str:
    """Returns the expression for the name of the shard of a table that belongs to the rows of `source`."""
    return f"'public.{table}_' || max(target.shardid) FILTER (WHERE target.logicalrelid = 'public.{table}'::regclass)"


def _shards_beside(table: str) -> str:
    """Returns the source of `_shard`: the shards beside the one of this table on which a trigger fires."""
    return f"""FROM pg_dist_shard source JOIN pg_dist_shard target ON target.shardminvalue = source.shardminvalue
    WHERE source.logicalrelid = 'public.{table}'::regclass
    AND source.shardid = substring(TG_TABLE_NAME FROM '[0-9]+$')::bigint"""


CITUS_FUNCTIONS = (
    f"""
{_OF_CENTROIDS}
DECLARE changes text;
BEGIN
    SELECT {_shard("centroid_change")} INTO STRICT changes {_shards_beside("centroid")};
    EXECUTE format('INSERT INTO %s {_INSERT} changed', changes);
    RETURN NULL;
END
$$
""",
    f"""
{_OF_METADATA}
DECLARE changes text; centroids text;
BEGIN
    SELECT {_shard("centroid_change")}, {_shard("centroid")} INTO STRICT changes, centroids
    {_shards_beside("identity")};
    EXECUTE format('INSERT INTO %s {_INSERT} %s WHERE collection_id = $1 AND identity_id = $2', changes, centroids)
    USING NEW.collection_id, NEW.id;
    RETURN NULL;
END
$$
""",
)
"""On Citus the triggers belong to the shards. Each inserts into the shard of changes on its own node, in the node's
part of the transaction, so that the transaction's id is that of the node."""
EVENTS = {"insert": "NEW", "update": "NEW", "delete": "OLD"}
CENTROID_TRIGGERS = tuple(
    f"CREATE TRIGGER record_{event} AFTER {event} ON centroid REFERENCING {rows} TABLE AS changed "
    "FOR EACH STATEMENT EXECUTE FUNCTION public.record_centroid_changes()"
    for event, rows in EVENTS.items()
)
METADATA_TRIGGER = (
    "CREATE TRIGGER record_metadata AFTER UPDATE OF metadata ON identity FOR EACH ROW "
    "WHEN (OLD.metadata IS DISTINCT FROM NEW.metadata) EXECUTE FUNCTION public.record_metadata_change()"
)
TRIGGERS = *CENTROID_TRIGGERS, METADATA_TRIGGER
DROP_METADATA_TRIGGER = "DROP TRIGGER IF EXISTS record_metadata ON identity"
DROP_TRIGGERS = *(f"DROP TRIGGER IF EXISTS record_{event} ON centroid" for event in EVENTS), DROP_METADATA_TRIGGER
