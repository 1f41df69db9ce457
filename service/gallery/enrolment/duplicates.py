"""Searches a collection for other identities that look like a new one."""

import uuid
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt
from sqlalchemy import func, text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.gallery.index.memory_indexes import MemoryIndexes
from service.gallery.search.nearest import SearchOptions, nearest
from service.gallery.search.results import Candidate, SearchPlan, SearchResult
from service.gallery.search.search import search_gallery
from service.gallery.storage.database import STATEMENT_TIMEOUT_S
from service.gallery.storage.tables import identity

Floats = npt.NDArray[np.float32]
OPTIONS = SearchOptions(top_k=10, with_metadata=False)
MAX_STATEMENTS = 10
RECENT_S = MAX_STATEMENTS * STATEMENT_TIMEOUT_S
"""Maximum time in seconds from the update of an identity's row to the commit of its enrolment, which executes at most
10 statements in this time, each with a timeout. An identity that was not visible to an earlier statement of the current
transaction was therefore updated at most this long before the transaction began."""


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


async def find_recent(
    connection: AsyncConnection,
    collection_id: uuid.UUID,
    model_id: str,
    probes: Sequence[Floats],
    is_duplicate: Callable[[Candidate], bool],
) -> list[Candidate]:
    """Searches like `find`, but only identities that may have been committed since this transaction began."""
    recent = identity.c.updated_at >= func.now() - text(f"interval '{RECENT_S} seconds'")
    scope = connection, collection_id, model_id
    return _duplicates(await nearest(*scope, probes, OPTIONS, recent, SearchPlan.EXACT), is_duplicate)


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
