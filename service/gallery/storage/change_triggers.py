"""The triggers that record changes of centroids, as SQL for migrations and restores.

A trigger fires once per statement, so that a bulk load records its rows by one insertion per statement.
"""

FUNCTION = """
CREATE OR REPLACE FUNCTION public.record_centroid_changes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.centroid_change (collection_id, model_id, identity_id, transaction_id)
    SELECT collection_id, model_id, identity_id, pg_current_xact_id()::text::bigint FROM changed;
    RETURN NULL;
END
$$
"""
"""A dump of tables contains their triggers and not the function, so a restore creates the function first."""
TRIGGERS = tuple(
    f"CREATE TRIGGER record_{event} AFTER {event} ON centroid REFERENCING {rows} TABLE AS changed "
    "FOR EACH STATEMENT EXECUTE FUNCTION public.record_centroid_changes()"
    for event, rows in (("insert", "NEW"), ("update", "NEW"), ("delete", "OLD"))
)
