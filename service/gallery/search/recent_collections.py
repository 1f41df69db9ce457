"""Collections that this process has read recently."""

import time

from service.gallery.people.collections import Collection

MAX_AGE_S = 1.0
MAX_COLLECTIONS = 1_000


class RecentCollections:
    """Remembers collections for `MAX_AGE_S` seconds, so that a search need not read one before it observes pictures.

    The transaction of the search reads the collection again. If its model has changed, the search starts over.
    """

    def __init__(self) -> None:
        self._collections: dict[str, tuple[float, Collection]] = {}

    def find(self, name: str) -> Collection | None:
        """Returns the collection if it was read less than `MAX_AGE_S` seconds ago."""
        read_at, collection = self._collections.get(name, (0.0, None))
        return collection if time.monotonic() - read_at < MAX_AGE_S else None

    def remember(self, collection: Collection) -> None:
        if len(self._collections) >= MAX_COLLECTIONS:
            self._collections.clear()
        self._collections[collection.name] = time.monotonic(), collection

    def forget(self, name: str) -> None:
        self._collections.pop(name, None)
