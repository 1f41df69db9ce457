"""Loads an index of a collection into memory, in a thread and on a connection of its own."""

import contextlib
import os
import socket
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg

from service.gallery.index import centroid_stream, field_stream, snapshots
from service.gallery.index.fields import Path
from service.gallery.index.index_table import FieldValues
from service.gallery.index.memory_index import MemoryIndex
from service.gallery.index.snapshots import Snapshot
from service.gallery.storage.database import Database


class Loader:
    """Loads indexes, one at a time. It can be stopped from another thread, even if the server does not respond."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: psycopg.Connection[Any] | None = None

    def load(self, collection_id: uuid.UUID, model_id: str) -> MemoryIndex:
        """Returns the index of a collection under a model.

        Raises:
            psycopg.OperationalError: the database does not respond or cancels the statement, or `stop` was called.
        """
        with self._snapshot(collection_id) as (connection, snapshot):
            count, dim = centroid_stream.size_of(connection, collection_id, model_id)
            index = MemoryIndex(dim, count, snapshot)
            for part in centroid_stream.read_all(connection, collection_id, model_id):
                index.fill(centroid_stream.parse_part(part, dim))
        index.sort()
        return index

    def load_field(self, collection_id: uuid.UUID, path: Path) -> tuple[FieldValues, Snapshot]:
        """Returns a field of the metadata of the identities of a collection. Raises psycopg.OperationalError."""
        with self._snapshot(collection_id) as (connection, snapshot):
            return field_stream.read_all(connection, collection_id, path), snapshot

    @contextlib.contextmanager
    def _snapshot(self, collection_id: uuid.UUID) -> "Iterator[tuple[psycopg.Connection[Any], Snapshot]]":
        """Opens a transaction that reads a collection in one snapshot."""
        with self._database.connect() as connection:
            self._connection = connection
            try:
                connection.execute(snapshots.BEGIN)
                connection.execute("SELECT public.allow_all_collections()")
                yield connection, snapshots.read(connection, collection_id)
            finally:
                self._connection = None

    def stop(self) -> None:
        """Ends a load in progress. A socket that is shut down wakes up the thread that reads from it."""
        if (connection := self._connection) is not None:
            with socket.socket(fileno=os.dup(connection.fileno())) as duplicate, contextlib.suppress(OSError):
                duplicate.shutdown(socket.SHUT_RDWR)
