"""1:N search: the size of a gallery, and the transactions of an identification."""

import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from sqlalchemy import ColumnElement, bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.gallery.index.memory_indexes import MemoryIndexes
from service.gallery.people import collections
from service.gallery.people.collections import Collection, ModelsChangedError
from service.gallery.search.filters import condition_of
from service.gallery.search.in_memory import InMemorySearch
from service.gallery.search.nearest import SearchOptions, nearest
from service.gallery.search.planning import CODES_FROM
from service.gallery.search.results import SearchPlan, SearchResult
from service.gallery.storage.database import Database
from service.gallery.storage.tables import centroid

Floats = npt.NDArray[np.float32]
ALWAYS_COUNTED = 1_000
"""Galleries up to this number of identities are counted for every request, in less than a millisecond."""
CACHE_S_PER_IDENTITY = 1e-4
"""The count of a gallery with a million identities is cached for 100 s."""
MAX_AGE_S, MAX_COLLECTIONS = 1.0, 1_000
"""For how long, and how many collections are remembered."""


@dataclass(frozen=True, slots=True)
class GallerySize:
    """The number of identities that have a template of the model, and the number of these templates."""

    people: int
    templates: int


class GallerySizes:
    """Counts galleries.

    The count of a large gallery is that of its index in memory. Without an index it is expensive and is cached: the
    larger the gallery, the longer.
    """

    def __init__(self, indexes: MemoryIndexes) -> None:
        self._indexes = indexes
        self._cache: dict[tuple[uuid.UUID, str], tuple[float, GallerySize]] = {}

    async def of(self, connection: AsyncConnection, collection_id: uuid.UUID, model_id: str) -> GallerySize:
        """Returns the size of a gallery. A cached size is at most `CACHE_S_PER_IDENTITY` seconds per identity old."""
        if (index := self._indexes.find(collection_id, model_id)) is not None:
            return GallerySize(index.people, index.templates)
        key = collection_id, model_id
        expires_at, size = self._cache.get(key, (0.0, None))
        if size is not None and time.monotonic() < expires_at:
            return size
        counted = await count(connection, collection_id, model_id)
        if counted.people > ALWAYS_COUNTED:
            self._cache[key] = time.monotonic() + CACHE_S_PER_IDENTITY * counted.people, counted
        else:
            self._cache.pop(key, None)
        return counted


async def count(connection: AsyncConnection, collection_id: uuid.UUID, model_id: str) -> GallerySize:
    """Counts the identities and templates of a collection under a model."""
    people, templates = (await connection.execute(_COUNT, {"collection": collection_id, "model": model_id})).one()
    return GallerySize(people, int(templates))


_COUNT = select(func.count(), func.coalesce(func.sum(centroid.c.template_count), 0)).where(
    centroid.c.collection_id == bindparam("collection"), centroid.c.model_id == bindparam("model")
)


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


@dataclass(frozen=True, slots=True)
class OpenGallery:
    """A collection in a transaction.

    Attributes:
        size: size of the gallery, on which the decision and the plan of a search depend.
    """

    connection: AsyncConnection
    collection: Collection
    size: GallerySize
    indexes: MemoryIndexes

    async def search(self, probes: Sequence[Floats], options: SearchOptions) -> list[SearchResult]:
        """Searches for normalised (dim,) probes in one statement; returns the results in the order of the probes.

        Raises:
            InvalidFilter
        """
        condition = None if options.metadata_filter is None else condition_of(options.metadata_filter)
        scope = self.connection, self.collection.id, self.collection.model_id
        return await search_gallery(*scope, self.size.people, self.indexes, probes, options, condition)


async def search_gallery(
    connection: AsyncConnection,
    collection_id: uuid.UUID,
    model_id: str,
    people: int,
    indexes: MemoryIndexes,
    probes: Sequence[Floats],
    options: SearchOptions,
    condition: ColumnElement[bool] | None = None,
) -> list[SearchResult]:
    """Searches a gallery by the plan that fits its size; returns the results in the order of the probes.

    Args:
        people: size of the gallery. A small one needs no index.
    """
    scope = connection, collection_id, model_id
    if people <= CODES_FROM:
        return await nearest(*scope, probes, options, condition, SearchPlan.EXACT)
    if (index := indexes.use(collection_id, model_id, people, len(probes[0]))) is not None:
        search = InMemorySearch(connection, indexes, index, collection_id, model_id, condition)
        if (results := await search.search(probes, options)) is not None:
            return results
    return await nearest(*scope, probes, options, condition)


@dataclass(frozen=True)
class GallerySearch:
    """The transactions of an identification. No transaction is open while pictures are observed."""

    database: Database
    sizes: GallerySizes
    indexes: MemoryIndexes
    recent: RecentCollections = field(default_factory=RecentCollections)

    @asynccontextmanager
    async def open(self, collection: str) -> AsyncIterator[OpenGallery]:
        """Opens a transaction and reads the collection and its size. Raises CollectionNotFound."""
        async with self.database.transaction() as connection:
            current = await collections.get(connection, collection)
            size = await self.sizes.of(connection, current.id, current.model_id)
            yield OpenGallery(connection, current, size, self.indexes)

    async def begin(self, collection: str) -> tuple[Collection, GallerySize]:
        """Reads the collection and its size. Raises CollectionNotFound."""
        async with self.open(collection) as gallery:
            return gallery.collection, gallery.size

    async def collection(self, name: str) -> Collection:
        """Returns the collection, possibly as it was up to a second ago. Raises CollectionNotFound."""
        if (known := self.recent.find(name)) is not None:
            return known
        async with self.database.transaction() as connection:
            current = await collections.get(connection, name)
        self.recent.remember(current)
        return current

    @asynccontextmanager
    async def reopen(self, collection: Collection) -> AsyncIterator[OpenGallery]:
        """Opens a transaction like `open`, after pictures were observed with the model of the collection.

        Raises:
            CollectionNotFound
            ModelsChangedError: the collection's active model has changed.
        """
        async with self.open(collection.name) as gallery:
            current = gallery.collection
            if (current.id, current.model_id) != (collection.id, collection.model_id):
                self.recent.forget(collection.name)
                raise ModelsChangedError
            yield gallery
