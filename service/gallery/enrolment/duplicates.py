"""Searches a collection for other identities that look like a new one."""

import uuid
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt
from sqlalchemy import ColumnElement, func, text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.gallery.search.nearest import SearchOptions, nearest
from service.gallery.search.results import Candidate, SearchPlan
from service.gallery.storage.database import STATEMENT_TIMEOUT_S
from service.gallery.storage.tables import identity

Floats = npt.NDArray[np.float32]
NEAREST = 10
"""The number of candidates for each embedding."""
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
) -> list[Candidate]:
    """Searches the whole collection for duplicates of normalised (dim,) probes; returns them best first."""
    return await _find(connection, collection_id, model_id, probes, is_duplicate, None, None)


async def find_recent(
    connection: AsyncConnection,
    collection_id: uuid.UUID,
    model_id: str,
    probes: Sequence[Floats],
    is_duplicate: Callable[[Candidate], bool],
) -> list[Candidate]:
    """Searches like `find`, but only identities that may have been committed since this transaction began."""
    recent = identity.c.updated_at >= func.now() - text(f"interval '{RECENT_S} seconds'")
    return await _find(connection, collection_id, model_id, probes, is_duplicate, recent, SearchPlan.EXACT)


def merge(first: Iterable[Candidate], second: Iterable[Candidate]) -> list[Candidate]:
    """Returns each identity once with its highest score, best first."""
    best: dict[uuid.UUID, Candidate] = {}
    for candidate in (*first, *second):
        known = best.get(candidate.id)
        if known is None or candidate.score > known.score:
            best[candidate.id] = candidate
    return sorted(best.values(), key=lambda candidate: -candidate.score)


async def _find(
    connection: AsyncConnection,
    collection_id: uuid.UUID,
    model_id: str,
    probes: Sequence[Floats],
    is_duplicate: Callable[[Candidate], bool],
    condition: ColumnElement[bool] | None,
    plan: SearchPlan | None,
) -> list[Candidate]:
    options = SearchOptions(NEAREST, with_metadata=False)
    results = await nearest(connection, collection_id, model_id, probes, options, condition, plan)
    matches = [item for result in results for item in result.candidates if not item.overruled and is_duplicate(item)]
    return merge(matches, [])
