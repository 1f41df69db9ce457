"""The triggers that record changes of centroids, as SQL for migrations, restores and Citus.

A trigger fires once per statement, so that a bulk load records its rows by one insertion per statement.
"""

_INSERT = (
    "(collection_id, model_id, identity_id, transaction_id) "
    "SELECT collection_id, model_id, identity_id, pg_current_xact_id()::text::bigint FROM changed"
)
_CREATE = "CREATE OR REPLACE FUNCTION public.record_centroid_changes() RETURNS trigger LANGUAGE plpgsql AS $$"
FUNCTION = f"""
{_CREATE}
BEGIN
    INSERT INTO public.centroid_change {_INSERT};
    RETURN NULL;
END
$$
"""
"""A dump of tables contains their triggers and not the function, so a restore creates the function first."""
CITUS_FUNCTION = f"""
{_CREATE}
DECLARE changes text;
BEGIN
    SELECT 'public.centroid_change_' || target.shardid INTO STRICT changes
    FROM pg_dist_shard source JOIN pg_dist_shard target ON target.shardminvalue = source.shardminvalue
    WHERE source.logicalrelid = 'public.centroid'::regclass
    AND target.logicalrelid = 'public.centroid_change'::regclass
    AND source.shardid = substring(TG_TABLE_NAME FROM '[0-9]+$')::bigint;
    EXECUTE format('INSERT INTO %s {_INSERT}', changes);
    RETURN NULL;
END
$$
"""  # noqa: S608 - constants of this module
"""On Citus the triggers belong to the shards of centroids. Each inserts into the shard of changes on its own node, in
the node's part of the transaction, so that the transaction's id is that of the node."""
EVENTS = {"insert": "NEW", "update": "NEW", "delete": "OLD"}
TRIGGERS = tuple(
    f"CREATE TRIGGER record_{event} AFTER {event} ON centroid REFERENCING {rows} TABLE AS changed "
    "FOR EACH STATEMENT EXECUTE FUNCTION public.record_centroid_changes()"
    for event, rows in EVENTS.items()
)
DROP_TRIGGERS = tuple(f"DROP TRIGGER IF EXISTS record_{event} ON centroid" for event in EVENTS)
