"""Statements about the server that stores a collection: on Citus a node of the cluster."""


def on_node(columns: str, collection_id: str) -> str:
    """Returns a statement for functions of the server that stores a collection, with one row.

    Citus executes a statement where the rows of its collection are, even if it reads none.

    Args:
        columns: SQL expressions without columns of tables.
        collection_id: SQL expression of the collection's id.
    """
    nothing = f"FROM centroid_change WHERE collection_id = {collection_id} AND transaction_id < 0"
    return f"SELECT {columns}, count(*) AS none {nothing}"
