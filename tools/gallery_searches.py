"""Searches of a benchmark: one after another, concurrent, with filters and for several faces."""

import asyncio
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from rich.progress import track

from service.gallery.index.memory_indexes import MemoryIndexes
from service.gallery.people.collections import Collection
from service.gallery.search.filters import condition_of
from service.gallery.search.nearest import SearchOptions
from service.gallery.search.search import search_gallery
from service.gallery.storage.database import Database
from tools.bulk_load import MODEL
from tools.search_figures import TOP_K, SearchFigures, SearchResults, Truth, search_figures
from tools.synthetic_gallery import Gallery

WARM_UP = 100
"""Searches before the measured ones, which read tables and indexes into memory."""
CLIENTS, FACES = 16, 10
SHARES = (1000, 100, 10, 2)
"""Filters that one of so many people fulfil: 0.1, 1, 10 and 50 %."""


@dataclass(frozen=True)
class GallerySearches:
    """Searches of collections with the same people.

    Attributes:
        collection_of: returns the collection in which the probe of this row is searched.
        ids: ids of the people.
    """

    database: Database
    indexes: MemoryIndexes
    gallery: Gallery
    ids: Sequence[uuid.UUID]
    collection_of: Callable[[int], Collection]

    async def search(
        self, rows: Sequence[int], metadata_filter: dict[str, int] | None = None
    ) -> tuple[float, list[list[tuple[uuid.UUID, float]]], str]:
        """Searches for the probes of these rows in one statement; returns seconds, candidates and the plan."""
        collection = self.collection_of(rows[0])
        probes = [self.gallery.probes[row] for row in rows]
        people = len(self.gallery.people)
        started = time.perf_counter()
        async with self.database.transaction(collection_id=collection.id) as connection:
            scope = connection, collection.id, MODEL, people, self.indexes
            condition = None if metadata_filter is None else condition_of(metadata_filter)
            options = SearchOptions(TOP_K, metadata_filter)
            results = await search_gallery(*scope, probes, options, condition)
        seconds = time.perf_counter() - started
        found = [[(candidate.id, candidate.score) for candidate in result.candidates] for result in results]
        return seconds, found, results[0].plan

    async def figures(self, name: str, truth: Truth, count: int) -> tuple[SearchFigures, str]:
        """Measures `count` searches one after another, after a warm-up; returns the figures and the last plan."""
        numbers = {identity_id: number for number, identity_id in enumerate(self.ids)}
        for row in range(min(WARM_UP, count)):
            await self.search([row])
        times: list[float] = []
        candidates = np.full((count, TOP_K), -1, np.int64)
        scores = np.full((count, TOP_K), -1, np.float32)
        plan = ""
        for row in track(range(count), description="searching", transient=True):
            seconds, [found], plan = await self.search([row])
            times.append(seconds)
            for rank, (identity_id, score) in enumerate(found):
                candidates[row, rank], scores[row, rank] = numbers[identity_id], score
        results = SearchResults(times, candidates, scores)
        part = Truth(truth.nearest[:count], truth.threshold)
        return search_figures(name, 0, 0, results, self.gallery.first(count), part), plan

    async def filtered(self, share: int) -> str:
        """Measures searches among one of `share` people and counts mates that an exact search ranks first.

        The first search makes the index read the field, for which this method waits.
        """
        collection, field = self.collection_of(0), f"one_of_{share}"
        before, _, _ = await self.search([0], {field: 0})
        index = self.indexes.find(collection.id, MODEL)
        while index is not None and (field,) not in index.state.table.fields:  # noqa: ASYNC110 - there is no event
            await asyncio.sleep(0.1)
        times, found = [], []
        for row in range(min(len(self.gallery.probes), WARM_UP)):
            metadata_filter = {field: int(self.gallery.mates[row]) % share}
            seconds, [candidates], _ = await self.search([row], metadata_filter)
            times.append(seconds)
            found.append(candidates)
        lost = first = 0
        for row, candidates in enumerate(found):  # afterwards: the threads of NumPy would disturb the searches
            mate = int(self.gallery.mates[row])
            similarity = self.gallery.people[mate % share :: share] @ self.gallery.probes[row]
            if similarity.argmax() == mate // share:
                first += 1
                lost += candidates[0][0] != self.ids[mate]
        first_ms = f"first search {1000 * before:.0f} ms"
        return (
            f"filter that keeps {100 / share:g} %: {_quantiles(times)}, {first_ms}, "
            f"{lost} of {first} mates in first place lost"
        )

    async def several_faces(self) -> str:
        rows = range(0, len(self.gallery.probes) - FACES, FACES)
        return f"{FACES} faces: {_quantiles([(await self.search(range(row, row + FACES)))[0] for row in rows])}"

    async def concurrent(self) -> str:
        """Measures concurrent clients."""
        rows = iter(range(2 * len(self.gallery.probes)))

        async def client() -> None:
            for row in rows:
                await self.search([row % len(self.gallery.probes)])

        started = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(CLIENTS)))
        per_second = 2 * len(self.gallery.probes) / (time.perf_counter() - started)
        return f"{CLIENTS} clients: {per_second:.0f} searches/s"


def _quantiles(times: Sequence[float]) -> str:
    return f"p50 {1000 * np.quantile(times, 0.5):.1f} ms, p95 {1000 * np.quantile(times, 0.95):.1f} ms"
