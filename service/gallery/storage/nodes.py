"""Statements about the server that stores a collection, on Citus a node of the cluster, and about all nodes."""

from sqlalchemy import Connection

from service.errors import StartupError
from service.gallery.storage.distribution import is_distributed


def on_node(columns: str, collection_id: str) -> str:
    """Returns a statement for functions of the server that stores a collection, with one row.

    Citus executes a statement where the rows of its collection are, even if it reads none.

    Args:
        columns: SQL expressions without columns of tables.
        collection_id: SQL expression of the collection's id.
    """
    nothing = f"FROM centroid_change WHERE collection_id = {collection_id} AND transaction_id < 0"
    return f"SELECT {columns}, count(*) AS none {nothing}"


def on_every_node(connection: Connection, statement: str) -> list[str]:
    """Executes a statement on the server, or on every node of its cluster in transactions of their own.

    Returns:
        The first value of each node, or the name of a statement without a result.

    Raises:
        StartupError: the statement failed on a node.
    """
    if not is_distributed(connection):
        result = connection.exec_driver_sql(statement)
        return [str(result.scalar_one()) if result.returns_rows else statement]
    nodes = connection.exec_driver_sql("SELECT success, result FROM run_command_on_all_nodes(%s)", (statement,)).all()
    for success, answer in nodes:
        if not success:
            raise StartupError(f"a node of the cluster refused a statement: {answer}")
    return [answer for _, answer in nodes]
