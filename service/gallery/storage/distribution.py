"""Distributes the tables among the nodes of a Citus cluster, and brings them back to one server.

All tables with a column `collection_id` are distributed by it and colocated, so that every collection is on one node.
`model` and `collection` are copied to every node. The API keys, the task queue and the schema revision stay on the
coordinator. Each conversion is one transaction: an interrupted one changes nothing.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

from psycopg.errors import LockNotAvailable
from sqlalchemy import Connection, NullPool, Table, create_engine
from sqlalchemy.exc import OperationalError

from service.errors import StartupError
from service.gallery.storage import change_triggers, local_collections
from service.gallery.storage.tables import api_key, collection, identity, metadata, model
from service.gallery.storage.visible_collections import CITUS, SINGLE_SERVER, RowSecurity

LOCK_TIMEOUT = "60s"
REFERENCE_TABLES = (model, collection)
DISTRIBUTED_TABLES: Sequence[Table] = (
    identity,
    *(
        table
        for table in metadata.sorted_tables
        if "collection_id" in table.c and table is not api_key and table is not identity
    ),
)
_FOREIGN_KEYS = """
    SELECT conrelid::regclass::text, quote_ident(conname), pg_get_constraintdef(oid) FROM pg_constraint
    WHERE contype = 'f' AND connamespace = 'public'::regnamespace
    AND (conrelid = ANY(CAST(%(tables)s AS regclass[])) OR confrelid = ANY(CAST(%(tables)s AS regclass[])))
"""
_CITUS_TABLES = """
    SELECT logicalrelid::text FROM pg_dist_partition
    WHERE logicalrelid::oid IN (SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace)
"""

_SETTINGS = (
    "SET LOCAL statement_timeout = 0",
    # Parallel commands of one transaction could not use the reference tables that it has created.
    "SET LOCAL citus.multi_shard_modify_mode = 'sequential'",
    # Citus calls all triggers on distributed tables unsafe, because they could access other nodes. Ours does not.
    "SET LOCAL citus.enable_unsafe_triggers = on",
)

_PROTECT_MODELS = (
    "CREATE POLICY readable ON model FOR SELECT USING (true)",
    "CREATE POLICY insertable ON model FOR INSERT WITH CHECK (true)",
    "ALTER TABLE model ENABLE ROW LEVEL SECURITY",
)
"""To lock a referenced row, Citus requires the right to update the table. No policy permits an update of a row."""
_UNPROTECT_MODELS = (
    "ALTER TABLE model DISABLE ROW LEVEL SECURITY",
    "DROP POLICY IF EXISTS readable ON model",
    "DROP POLICY IF EXISTS insertable ON model",
)


def has_citus(connection: Connection) -> bool:
    """Returns True if the database has the extension Citus."""
    return bool(_value(connection, "SELECT count(*) FROM pg_extension WHERE extname = 'citus'"))


def worker_nodes(connection: Connection) -> int:
    """Returns the number of active worker nodes; 0 without Citus."""
    if not has_citus(connection):
        return 0
    return _value(
        connection, "SELECT count(*) FROM pg_dist_node WHERE isactive AND noderole = 'primary' AND groupid > 0"
    )


def is_distributed(connection: Connection) -> bool:
    """Returns True if the tables are distributed."""
    return has_citus(connection) and identity.name in _citus_tables(connection)


def has_identities(connection: Connection) -> bool:
    """Returns True if the registry contains an identity. The connection must see all collections."""
    return bool(_value(connection, "SELECT count(*) FROM (SELECT 1 FROM identity LIMIT 1) rows"))


def convert(url: str, conversion: Callable[[Connection], Iterator[str]]) -> Iterator[str]:
    """Executes `distribute`, `undistribute` or `after_restore` in one transaction. Yields a line for each table.

    Raises:
        StartupError: see `distribute`; or another transaction holds a lock on a table for `LOCK_TIMEOUT`.
    """
    engine = create_engine(url, poolclass=NullPool, hide_parameters=True)
    try:
        with engine.begin() as connection:
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
            yield from conversion(connection)
    except OperationalError as error:
        if not isinstance(error.orig, LockNotAvailable):
            raise
        raise StartupError("a long transaction uses the tables; nothing has changed, try again later") from error


def distribute(connection: Connection) -> Iterator[str]:
    """Distributes the tables that are not distributed yet, with their rows, in the caller's transaction.

    The tables are locked until it ends. Their local copies are deleted.

    Yields:
        A line for each table that has been copied.

    Raises:
        StartupError: the database has no Citus or no worker node, or the coordinator is not a node of its cluster.
    """
    if worker_nodes(connection) == 0:
        raise StartupError(
            "the database has no Citus worker nodes; install the extension on all nodes, then call citus_add_node "
            "on the coordinator for each worker"
        )
    if not _value(connection, "SELECT count(*) FROM pg_dist_node WHERE groupid = 0"):
        raise StartupError("the coordinator is not a node of its cluster; call citus_set_coordinator_host on it")
    converted = _citus_tables(connection)
    references = [table for table in REFERENCE_TABLES if table.name not in converted]
    distributed = [table for table in DISTRIBUTED_TABLES if table.name not in converted]
    if not references and not distributed:
        return
    _execute(connection, (*_SETTINGS, local_collections.DROP))
    foreign_keys = _drop_foreign_keys(connection)
    _drop_triggers(connection)
    _apply(connection, CITUS, change_triggers.CITUS_FUNCTIONS, distributed)
    for table in references:
        connection.exec_driver_sql(f"SELECT create_reference_table('{table}')")
        yield f"{table}: copied to every node"
    for table in distributed:
        together = "" if table is identity else f", colocate_with => '{identity}'"
        connection.exec_driver_sql(f"SELECT create_distributed_table('{table}', 'collection_id'{together})")
        yield f"{table}: distributed by collection"
    for table in (*references, *distributed):
        connection.exec_driver_sql(f"SELECT truncate_local_data_after_distributing_table('{table}')")
    _add_foreign_keys(connection, foreign_keys)
    _execute(connection, (*change_triggers.TRIGGERS, *(_PROTECT_MODELS if model in references else ())))
    local_collections.create(connection, is_distributed=True)


def undistribute(connection: Connection) -> Iterator[str]:
    """Brings the distributed tables back to the coordinator, with their rows, in the caller's transaction.

    Yields:
        A line for each table that has been copied.
    """
    _execute(connection, (*_SETTINGS, local_collections.DROP))
    foreign_keys = _drop_foreign_keys(connection)
    _drop_triggers(connection)
    for name in _citus_tables(connection):
        connection.exec_driver_sql(f"SELECT undistribute_table('{name}')")
        yield f"{name}: on the coordinator"
    _add_foreign_keys(connection, foreign_keys)
    use_single_server_form(connection)


def create_local_view(connection: Connection) -> None:
    """Creates the view `local_collection` if the database does not have it."""
    if not local_collections.exists(connection):
        local_collections.create(connection, is_distributed(connection))


def create_metadata_trigger(connection: Connection) -> None:
    """Creates the trigger that records changes of metadata, which a restored database may have already."""
    distributed = is_distributed(connection)
    functions = change_triggers.CITUS_FUNCTIONS if distributed else change_triggers.FUNCTIONS
    settings = _SETTINGS if distributed else ()
    drop, create = change_triggers.DROP_METADATA_TRIGGER, change_triggers.METADATA_TRIGGER
    _execute(connection, (*settings, *functions, drop, create))


def after_restore(connection: Connection) -> Iterator[str]:
    """Completes restored tables, which are on one server: a backup contains no functions, and it may be of a cluster.

    If the database has Citus worker nodes, the tables are distributed.
    """
    use_single_server_form(connection)
    if worker_nodes(connection) > 0:
        yield from distribute(connection)


def use_single_server_form(connection: Connection) -> None:
    """Gives tables on one server the functions, policies and triggers of one server."""
    _drop_triggers(connection)
    _execute(connection, (*_UNPROTECT_MODELS, local_collections.DROP))
    local_collections.create(connection, is_distributed=False)
    _apply(connection, SINGLE_SERVER, change_triggers.FUNCTIONS, DISTRIBUTED_TABLES)
    _execute(connection, change_triggers.TRIGGERS)


def _apply(connection: Connection, form: RowSecurity, functions: Iterable[str], tables: Iterable[Table]) -> None:
    _execute(connection, (*form.functions, *functions))
    for table in tables:
        change = f"USING ({form.condition}) WITH CHECK ({form.condition})"
        connection.exec_driver_sql(f"ALTER POLICY one_collection ON {table} {change}")


def _drop_triggers(connection: Connection) -> None:
    _execute(connection, change_triggers.DROP_TRIGGERS)


def _drop_foreign_keys(connection: Connection) -> list[tuple[str, str, str]]:
    """Drops the foreign keys between the tables and returns them: table, name and definition."""
    tables = [table.name for table in (*REFERENCE_TABLES, *DISTRIBUTED_TABLES)]
    rows = connection.exec_driver_sql(_FOREIGN_KEYS, {"tables": tables}).all()
    for table, name, _ in rows:
        connection.exec_driver_sql(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
    return [(row[0], row[1], row[2]) for row in rows]


def _add_foreign_keys(connection: Connection, foreign_keys: Iterable[tuple[str, str, str]]) -> None:
    for table, name, definition in foreign_keys:
        connection.exec_driver_sql(f"ALTER TABLE {table} ADD CONSTRAINT {name} {definition}")


def _citus_tables(connection: Connection) -> list[str]:
    """Returns the names of the registry's tables that Citus manages."""
    names = connection.exec_driver_sql(_CITUS_TABLES).scalars().all()
    return [name for name in names if name in metadata.tables]


def _execute(connection: Connection, statements: Iterable[str]) -> None:
    for statement in statements:
        connection.exec_driver_sql(statement.replace("%", "%%"))


def _value(connection: Connection, query: str) -> int:
    return int(connection.exec_driver_sql(query).scalar_one())
