"""Loads an index of a collection into memory, in a thread and on a connection of its own."""

import uuid

from service.gallery.index import centroid_stream, snapshots
from service.gallery.index.memory_index import MemoryIndex
from service.gallery.storage.database import Database


def load(database: Database, collection_id: uuid.UUID, model_id: str) -> MemoryIndex:
    """Returns the index of a collection under a model.

    Raises:
        psycopg.OperationalError: the database does not respond, or cancels the statement.
    """
    with database.connect() as connection:
        connection.execute(snapshots.BEGIN)
        connection.execute("SET LOCAL registry.everything = 'on'")
        snapshot = snapshots.read(connection)
        count, dim = connection.execute(
            "SELECT count(*), coalesce(max(dim), 0) FROM centroid WHERE collection_id = %s AND model_id = %s",
            [collection_id, model_id],
        ).fetchone() or (0, 0)
        index = MemoryIndex(dim, count, snapshot)
        for part in centroid_stream.read_all(connection, collection_id, model_id):
            index.fill(centroid_stream.parse_part(part, dim))
    index.sort()
    return index
