"""1:N search in SQL: a shortlist by centroids, then a rerank by raw templates."""

import uuid
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
from pgvector import HalfVector
from pgvector.sqlalchemy import HALFVEC
from sqlalchemy import CTE, ColumnElement, Select, cast, func, lateral, select, text, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from service.gallery.index import hnsw
from service.gallery.index.codes import code_of
from service.gallery.people.corrections import overrules
from service.gallery.search.explain import Step, explain
from service.gallery.storage.tables import centroid, correction, identity, template

Floats = npt.NDArray[np.float32]
SMALLEST_SHORTLIST = 100
SHORTLIST_PER_RESULT = 4
EF_SEARCH = 800
"""HNSW's candidate list. With it a search through the index lost none of 500 mates among 100,000 people (512-d,
clustered, `make bench-gallery`); with 200 it lost 3.4 % of them, in half the time."""
FILTERED_EXACTLY = 20_000
"""People up to whom a filtered search compares all who fulfil the filter (about 20 ms at 512 dimensions)."""
CODED_FROM = 5_000
"""People from which on codes are compared first; below, comparing all centroids takes no longer."""
NEAREST_BY_CODE = 800
"""Centroids that are compared after the codes."""
SCAN_ALONE = "SELECT set_config('jit', 'off', true), set_config('max_parallel_workers_per_gather', '0', true)"
"""To compile a scan of codes, or to divide it among processes, costs others more than it saves."""
MOST_UNCODED = 2_000
"""Centroids without a code, as an older release writes them, up to which they are compared beside the nearest."""
MAX_SCANNED = 200_000
"""Entries of the index that a filtered search reads at most."""


class Plan(StrEnum):
    """How the shortlist was made."""

    EXACT = "exact"
    """Every centroid was compared."""
    CODES = "codes"
    """Every centroid's code was compared, and the centroids of those whose codes were nearest."""
    ANN = "ann"
    """A graph was walked (HNSW)."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An enrolled person near the probe.

    `score` is the cosine to the nearest raw template, which is what thresholds are for; `centroid_score` the cosine to
    the centroid, by which the shortlist was made.
    """

    id: uuid.UUID
    external_id: str
    label: str
    metadata: dict[str, Any]
    score: float
    centroid_score: float
    template_count: int
    counter_score: float | None = None
    """Cosine to the nearest face that somebody said is not this person's."""

    @property
    def overruled(self) -> bool:
        """Whether a correction says that the probe is somebody else."""
        return overrules(self.counter_score, self.score)


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The nearest people and how they were found. `steps`: what PostgreSQL did, where the caller asked for it."""

    candidates: list[Candidate]
    plan: Plan
    shortlist: int
    steps: list[Step] | None = None


async def nearest(
    connection: AsyncConnection,
    collection_id: uuid.UUID,
    model_id: str,
    probe: Floats,
    top_k: int,
    among: ColumnElement[bool] | None = None,
    explained: bool = False,
) -> SearchResult:
    """The `top_k` identities whose templates come nearest to a normalised probe, best first.

    Small collections are searched exactly, larger ones by codes, and those that have an index by it.

    Args:
        among: a condition on `identity`. Up to `FILTERED_EXACTLY` people who fulfil it are searched exactly; for more,
            their codes are compared, or the index is read until enough of its nearest fulfil it.
    """
    size = max(SMALLEST_SHORTLIST, SHORTLIST_PER_RESULT * top_k)
    plan = await _plan(connection, collection_id, model_id, among)
    if plan is Plan.ANN:
        shortlist = _ann_shortlist(collection_id, model_id, probe, size, among)
        await connection.execute(text(f"SET LOCAL hnsw.ef_search = {min(max(EF_SEARCH, size), 1000)}"))
        if among is not None:
            await connection.execute(text("SET LOCAL hnsw.iterative_scan = strict_order"))
            await connection.execute(text(f"SET LOCAL hnsw.max_scan_tuples = {MAX_SCANNED}"))
    elif plan is Plan.CODES:
        await connection.execute(text(SCAN_ALONE))
        shortlist = _code_shortlist(collection_id, model_id, probe, size, among)
    else:
        shortlist = _exact_shortlist(collection_id, model_id, probe, size, among)
    statement = _reranked(shortlist, collection_id, model_id, probe, top_k)
    candidates = [Candidate(**row._mapping) for row in await connection.execute(statement)]
    return SearchResult(candidates, plan, size, await explain(connection, statement) if explained else None)


async def _plan(
    connection: AsyncConnection, collection_id: uuid.UUID, model_id: str, among: ColumnElement[bool] | None
) -> Plan:
    if await hnsw.is_ready(connection, collection_id, model_id):
        plan = Plan.ANN
    elif await _is_coded(connection, collection_id, model_id):
        plan = Plan.CODES
    else:
        return Plan.EXACT
    if among is None:
        return plan
    fulfil = select(identity.c.id).where(identity.c.collection_id == collection_id, among)
    return plan if await _are_more_than(connection, fulfil, FILTERED_EXACTLY) else Plan.EXACT


async def _is_coded(connection: AsyncConnection, collection_id: uuid.UUID, model_id: str) -> bool:
    """Whether codes tell enough people apart for it to pay, and next to all have one."""
    known = select(centroid.c.identity_id).where(
        centroid.c.collection_id == collection_id, centroid.c.model_id == model_id
    )
    if not await _are_more_than(connection, known.where(centroid.c.code.is_not(None)), CODED_FROM):
        return False
    return not await _are_more_than(connection, known.where(centroid.c.code.is_(None)), MOST_UNCODED)


async def _are_more_than(connection: AsyncConnection, rows: Select[Any], count: int) -> bool:
    some = rows.limit(count + 1).subquery()
    return (await connection.execute(select(func.count()).select_from(some))).scalar_one() > count


def _exact_shortlist(
    collection_id: uuid.UUID, model_id: str, probe: Floats, size: int, among: ColumnElement[bool] | None
) -> CTE:
    distance = centroid.c.embedding.max_inner_product(probe)
    statement = select(centroid.c.identity_id, (-distance).label("centroid_score")).where(
        centroid.c.collection_id == collection_id, centroid.c.model_id == model_id
    )
    # Adding nothing keeps the planner from walking an index in the order of the distance.
    return _only(statement, among).order_by(distance + 0).limit(size).cte("shortlist")


def _code_shortlist(
    collection_id: uuid.UUID, model_id: str, probe: Floats, size: int, among: ColumnElement[bool] | None
) -> CTE:
    """The nearest by code, and all who have none, with the centroids compared."""
    of_model = centroid.c.collection_id == collection_id, centroid.c.model_id == model_id
    bits = centroid.c.code.hamming_distance(code_of(probe))
    coded = select(centroid.c.identity_id).where(*of_model, centroid.c.code.is_not(None))
    coded = _only(coded, among).order_by(bits).limit(max(NEAREST_BY_CODE, size))
    uncoded = _only(select(centroid.c.identity_id).where(*of_model, centroid.c.code.is_(None)), among)
    near = union_all(select(coded.subquery()), uncoded).subquery("near")
    distance = centroid.c.embedding.max_inner_product(probe)
    statement = (
        select(centroid.c.identity_id, (-distance).label("centroid_score"))
        .join(near, near.c.identity_id == centroid.c.identity_id)
        .where(*of_model)
    )
    return statement.order_by(distance + 0).limit(size).cte("shortlist")


def _ann_shortlist(
    collection_id: uuid.UUID, model_id: str, probe: Floats, size: int, among: ColumnElement[bool] | None
) -> CTE:
    """As the index is partial and on an expression, ids and cast must stand in the statement as literals."""
    distance = cast(centroid.c.embedding, HALFVEC(len(probe))).max_inner_product(HalfVector(probe))
    score = -centroid.c.embedding.max_inner_product(probe)
    statement = select(centroid.c.identity_id, score.label("centroid_score")).where(
        *hnsw.predicate(collection_id, model_id)
    )
    return _only(statement, among).order_by(distance).limit(size).cte("shortlist")


def _only(statement: Select[Any], among: ColumnElement[bool] | None) -> Select[Any]:
    """Centroids of the people who fulfil a condition."""
    if among is None:
        return statement
    person = (identity.c.collection_id == centroid.c.collection_id) & (identity.c.id == centroid.c.identity_id)
    return statement.join(identity, person).where(among)


def _reranked(shortlist: CTE, collection_id: uuid.UUID, model_id: str, probe: Floats, top_k: int) -> Select[Any]:
    best = lateral(
        select(
            func.max(-template.c.embedding.max_inner_product(probe)).label("score"),
            func.count().label("template_count"),
        ).where(
            template.c.collection_id == collection_id,
            template.c.identity_id == shortlist.c.identity_id,
            template.c.model_id == model_id,
        )
    )
    ranked = (
        select(
            identity.c.id,
            identity.c.external_id,
            identity.c.label,
            identity.c.metadata,
            best.c.score,
            shortlist.c.centroid_score,
            best.c.template_count,
        )
        .select_from(shortlist)
        .join(identity, (identity.c.collection_id == collection_id) & (identity.c.id == shortlist.c.identity_id))
        .join(best, best.c.template_count > 0)
        .order_by(best.c.score.desc(), shortlist.c.centroid_score.desc(), identity.c.id)
        .limit(top_k)
        .cte("ranked")
    )
    counter = (
        select(func.max(-correction.c.embedding.max_inner_product(probe)))
        .where(
            correction.c.collection_id == collection_id,
            correction.c.identity_id == ranked.c.id,
            correction.c.model_id == model_id,
        )
        .scalar_subquery()
    )
    order = ranked.c.score.desc(), ranked.c.centroid_score.desc(), ranked.c.id
    return select(*ranked.c, counter.label("counter_score")).order_by(*order)
