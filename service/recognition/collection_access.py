"""Opens the transactions of use cases on one collection."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import CollectionNotFound, NotFound
from service.gallery.people import collections
from service.gallery.people.collections import Collection, Lock
from service.gallery.storage.database import TRANSACTION_TIMEOUT_S, Database


@asynccontextmanager
async def in_collection(
    database: Database,
    name: str,
    pointer: str = "/collection",
    lock: Lock | None = None,
    timeout_s: float = TRANSACTION_TIMEOUT_S,
) -> AsyncIterator[tuple[AsyncConnection, Collection]]:
    """Opens a transaction and reads the collection. A NotFound error of the block gets the collection's name.

    Args:
        pointer: JSON pointer of the collection's name in the request.
        lock: lock the collection's row until the transaction ends; None: do not lock it.
        timeout_s: time limit of the transaction in seconds.

    Raises:
        CollectionNotFound, DatabaseUnavailable
    """
    async with database.transaction(timeout_s=timeout_s) as connection:
        collection = await collections.get(connection, name, pointer, lock)
        try:
            yield connection, collection
        except NotFound as error:
            raise _named(error, name) from None


def _named(error: NotFound, collection: str) -> NotFound:
    """Returns the error with the name of the collection that was searched; errors about a collection name their own."""
    if isinstance(error, CollectionNotFound) or "collection" in error.extensions:
        return error
    detail = f"{error.detail} in the collection {collection!r}"
    return type(error)(detail, pointer=error.pointer, **error.extensions, collection=collection)
