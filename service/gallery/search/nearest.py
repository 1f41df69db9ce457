"""Executes 1:N searches."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import ColumnElement
from sqlalchemy.ext.asyncio import AsyncConnection

from service.gallery.index.centroids import binary_codes
from service.gallery.search.explain import explain
from service.gallery.search.planning import choose_plan
from service.gallery.search.results import Candidate, SearchPlan, SearchResult
from service.gallery.search.statements import (
    BY_CODE,
    CODES,
    COLLECTION,
    MODEL,
    NEAR,
    SIZE,
    TOP_K,
    VECTORS,
    statement_of,
)

Floats = npt.NDArray[np.float32]
MIN_SHORTLIST, SHORTLIST_PER_RESULT = 100, 4
NEAREST_BY_CODE = 800
"""Centroids that are compared after the comparison of all binary codes."""
COLUMNS = 10
"""The number of columns of a `Candidate`."""


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """The options of a search.

    Attributes:
        top_k: number of identities to return.
        metadata_filter: as `service.gallery.search.filters` defines it.
        with_metadata: return the metadata of the identities.
        explained: execute the statement a second time and return PostgreSQL's plan.
    """

    top_k: int
    metadata_filter: Mapping[str, Any] | None = None
    with_metadata: bool = True
    explained: bool = False

    @property
    def shortlist(self) -> int:
        """The number of centroids whose templates are compared."""
        return max(MIN_SHORTLIST, SHORTLIST_PER_RESULT * self.top_k)


async def nearest(
    connection: AsyncConnection,
    collection_id: uuid.UUID,
    model_id: str,
    probes: Sequence[Floats],
    options: SearchOptions,
    condition: ColumnElement[bool] | None = None,
    plan: SearchPlan | None = None,
) -> list[SearchResult]:
    """Returns for each normalised (dim,) probe the identities whose templates are nearest to it, best first.

    Args:
        condition: a condition on `identity`, in addition to those of the options.
        plan: chosen by `choose_plan` in this transaction; None: this function chooses.
    """
    plan = plan or await choose_plan(connection, collection_id, model_id, condition)
    parameters = parameters_of(collection_id, model_id, probes, options)
    if plan is SearchPlan.BINARY_CODES:
        parameters[CODES.key] = binary_codes(np.stack(probes))
    results, _ = await execute(connection, plan, parameters, options, condition)
    return results


def parameters_of(
    collection_id: uuid.UUID, model_id: str, probes: Sequence[Floats], options: SearchOptions
) -> dict[str, Any]:
    """Returns the parameters of a search's statement that every plan needs; codes and nearest ids are NULL."""
    unused = [None] * len(probes)
    return {
        COLLECTION.key: collection_id,
        MODEL.key: model_id,
        SIZE.key: options.shortlist,
        BY_CODE.key: max(NEAREST_BY_CODE, options.shortlist),
        TOP_K.key: options.top_k,
        VECTORS.key: [str(probe.tolist()) for probe in probes],
        CODES.key: unused,
        NEAR.key: unused,
    }


async def execute(
    connection: AsyncConnection,
    plan: SearchPlan,
    parameters: Mapping[str, Any],
    options: SearchOptions,
    condition: ColumnElement[bool] | None,
) -> tuple[list[SearchResult], tuple[Any, ...] | None]:
    """Executes the statement of a search.

    Returns:
        The results in the order of the probes, and the columns after those of the candidates; None: no candidate.
    """
    statement = statement_of(plan, condition, options.with_metadata)
    candidates: list[list[Candidate]] = [[] for _ in parameters[VECTORS.key]]
    rows = (await connection.execute(statement, parameters)).all()
    for row in rows:
        candidates[row[0] - 1].append(Candidate(*row[1 : COLUMNS + 1]))
    nodes = await explain(connection, statement, parameters) if options.explained else None
    results = [SearchResult(items, plan, options.shortlist, nodes) for items in candidates]
    return results, tuple(rows[0][COLUMNS + 1 :]) if rows else None
