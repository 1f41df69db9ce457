"""Searches a collection for other identities that look like a new one."""

import uuid
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt
from sqlalchemy.ext.asyncio import AsyncConnection

from service.gallery.index.memory_indexes import MemoryIndexes
from service.gallery.index.snapshots import Snapshot
from service.gallery.search.nearest import SearchOptions, execute, parameters_of
from service.gallery.search.results import Candidate, SearchPlan, SearchResult
from service.gallery.search.search import search_gallery
from service.gallery.search.statements import (
    ALL_CHANGED,
    MAX_CHANGED,
    NEAR,
    VISIBLE,
    XMIN,
    use_any_plans,
    use_generic_plans,
)

Floats = npt.NDArray[np.float32]
OPTIONS = SearchOptions(top_k=10, with_metadata=False)


async def find(
    connection: AsyncConnection,
    collection_id: uuid.UUID,
    model_id: str,
    probes: Sequence[Floats],
    is_duplicate: Callable[[Candidate], bool],
    people: int,
    indexes: MemoryIndexes,
) -> list[Candidate]:
    """Searches a whole collection of this size for duplicates of normalised (dim,) probes; returns them best first."""
    results = await search_gallery(connection, collection_id, model_id, people, indexes, probes, OPTIONS)
    return _duplicates(results, is_duplicate)


async def find_changed(
    connection: AsyncConnection,
    collection_id: uuid.UUID,
    model_id: str,
    probes: Sequence[Floats],
    is_duplicate: Callable[[Candidate], bool],
    since: Snapshot,
) -> list[Candidate] | None:
    """Searches like `find`, but only identities that were changed by transactions that the snapshot does not contain.

    Returns:
        None: too many identities have changed.
    """
    parameters = parameters_of(collection_id, model_id, probes, OPTIONS)
    parameters |= {XMIN.key: since.xmin, VISIBLE.key: since.visible, ALL_CHANGED.key: True}
    parameters[NEAR.key] = ["{}"] * len(probes)
    await use_generic_plans(connection, since.server)
    results, facts = await execute(connection, SearchPlan.IN_MEMORY, parameters, OPTIONS, None)
    await use_any_plans(connection)
    if facts is not None and facts[0] > MAX_CHANGED:
        return None
    return _duplicates(results, is_duplicate)


def merge(first: Iterable[Candidate], second: Iterable[Candidate]) -> list[Candidate]:
    """Returns each identity once with its highest score, best first."""
    best: dict[uuid.UUID, Candidate] = {}
    for candidate in (*first, *second):
        known = best.get(candidate.id)
        if known is None or candidate.score > known.score:
            best[candidate.id] = candidate
    return sorted(best.values(), key=lambda candidate: -candidate.score)


def _duplicates(results: Iterable[SearchResult], is_duplicate: Callable[[Candidate], bool]) -> list[Candidate]:
    matches = [item for result in results for item in result.candidates if not item.overruled and is_duplicate(item)]
    return merge(matches, [])
