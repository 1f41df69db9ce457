"""The view `local_collection`: the rows of `collection` on the server to which the service is connected.

The service reads and locks collections through it. On one server it is a view of the table. On Citus it is a view of
the coordinator's copy of the table: row locks work there as on one server, while two transactions that lock rows of the
table itself FOR SHARE wait for each other, because Citus locks the whole table in two steps. An update of the table
changes all copies, so it waits for these row locks too.
"""

from sqlalchemy import Column, Connection, MetaData, Table

from service.gallery.storage.tables import collection

VIEW = "local_collection"
local_collection = Table(
    VIEW, MetaData(), *(Column(column.name, column.type, key=column.key) for column in collection.columns)
)
_COPY = "SELECT 'collection_' || shardid FROM pg_dist_shard WHERE logicalrelid = 'public.collection'::regclass"
DROP = f"DROP VIEW IF EXISTS public.{VIEW}"


def create_of(table: str) -> str:
    """Returns the statement that creates the view of a table or shard."""
    return f"CREATE VIEW public.{VIEW} AS SELECT * FROM public.{table}"  # noqa: S608 - names of this module


def exists(connection: Connection) -> bool:
    """Returns True if the database has the view. A restore does not create it."""
    return connection.exec_driver_sql(f"SELECT to_regclass('public.{VIEW}')").scalar() is not None


def create(connection: Connection, is_distributed: bool) -> None:
    """Creates the view in the form of the database."""
    table = "collection"
    if is_distributed:
        table = connection.exec_driver_sql(_COPY).scalar_one()
        connection.exec_driver_sql("SET LOCAL citus.enable_ddl_propagation = off")  # the copies of nodes have no view
    connection.exec_driver_sql(create_of(table))
    if is_distributed:
        connection.exec_driver_sql("SET LOCAL citus.enable_ddl_propagation = on")
