"""A server of a cluster that does not respond delays the indexes of its own collections only."""

import uuid

import numpy as np
import pytest

from service.errors import DatabaseUnavailable
from service.gallery.index.memory_indexes import MemoryIndexes
from service.gallery.people import collections
from service.gallery.people.collections import Collection
from service.gallery.storage.database import Database
from tests.gallery_rows import enrol, unit

pytestmark = pytest.mark.anyio


async def test_the_other_indexes_are_refreshed(
    database: Database, collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with database.transaction() as connection:
        second = await collections.create(connection, f"second-{uuid.uuid4().hex[:8]}", "tiny")
    indexes = MemoryIndexes(database, 10**8)
    embeddings = unit(np.random.default_rng(3), 2)
    for gallery in (collection, second):
        await enrol(database, gallery, "first", embeddings[:1])
        await indexes.load(gallery.id, "tiny")
        await enrol(database, gallery, "second", embeddings[1:])
    refresh = indexes._refresh

    async def refresh_unless_first(loaded: dict) -> None:
        if collection.id in {key[0] for key in loaded}:
            raise DatabaseUnavailable("the server does not respond")
        await refresh(loaded)

    by_server = [{key: item} for key, item in indexes._loaded.items()]
    monkeypatch.setattr(indexes._loaded, "by_server", lambda: by_server)
    monkeypatch.setattr(indexes, "_refresh", refresh_unless_first)
    with pytest.raises(DatabaseUnavailable):
        await indexes.refresh()
    counts = [found.people for gallery in (collection, second) if (found := indexes.find(gallery.id, "tiny"))]
    assert counts == [1, 2]
