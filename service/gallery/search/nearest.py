"""The statement of a 1:N search: a shortlist by centroids and a rerank by raw templates, for several probes at once.

The probes are the rows of a materialised table `probe`, and a LATERAL subquery computes the result of each row. So one
statement searches for every face of a picture, and the server parses each probe once.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from pgvector.sqlalchemy import BIT, HALFVEC, Vector
from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Integer,
    Select,
    Subquery,
    Text,
    Uuid,
    bindparam,
    cast,
    func,
    lateral,
    literal_column,
    null,
    select,
    true,
    union_all,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncConnection

from service.gallery.index import hnsw
from service.gallery.index.centroids import binary_codes
from service.gallery.people.retention import IS_RETAINED
from service.gallery.search.explain import explain
from service.gallery.search.planning import choose_plan
from service.gallery.search.results import Candidate, SearchPlan, SearchResult
from service.gallery.storage.tables import CODE_BITS, centroid, correction, identity, template

Floats = npt.NDArray[np.float32]
MIN_SHORTLIST, SHORTLIST_PER_RESULT = 100, 4
NEAREST_BY_CODE = 800
"""Centroids that are compared after the comparison of all binary codes."""
# Columns of the row of `probe` for which the LATERAL subquery is computed.
PROBE: ColumnElement[Any] = literal_column("probe.vector", Vector())
PROBE_CODE: ColumnElement[Any] = literal_column("probe.code", BIT(CODE_BITS))

COLLECTION = bindparam("collection", type_=Uuid())
MODEL = bindparam("model", type_=Text())
SIZE, BY_CODE, TOP_K = (bindparam(name, type_=Integer()) for name in ("size", "by_code", "top_k"))
VECTORS, CODES = (bindparam(name, type_=ARRAY(Text)) for name in ("vectors", "codes"))


@dataclass(frozen=True, slots=True)
class _Scope:
    """What a statement contains besides its parameters: a condition, and for HNSW literals that choose the index."""

    collection_id: uuid.UUID | None = None
    model_id: str = ""
    dim: int = 0
    condition: ColumnElement[bool] | None = None


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
    size = options.shortlist
    plan = plan or await choose_plan(connection, collection_id, model_id, size, condition)
    if condition is None and plan is not SearchPlan.HNSW:
        statement = _unfiltered(plan, options.with_metadata)
    else:
        scope = _Scope(collection_id, model_id, len(probes[0]), condition)
        statement = _statement(plan, scope, options.with_metadata)
    stacked = np.stack(probes)
    parameters = {
        COLLECTION.key: collection_id,
        MODEL.key: model_id,
        SIZE.key: size,
        BY_CODE.key: max(NEAREST_BY_CODE, size),
        TOP_K.key: options.top_k,
        VECTORS.key: [str(probe.tolist()) for probe in stacked],
        CODES.key: binary_codes(stacked) if plan is SearchPlan.BINARY_CODES else [None] * len(probes),
    }
    candidates: list[list[Candidate]] = [[] for _ in probes]
    for position, *values in await connection.execute(statement, parameters):
        candidates[position - 1].append(Candidate(*values))
    nodes = await explain(connection, statement, parameters) if options.explained else None
    return [SearchResult(items, plan, size, nodes) for items in candidates]


@cache
def _unfiltered(plan: SearchPlan, with_metadata: bool) -> Select[Any]:
    """Returns the statement of searches without a filter. Building one takes longer than a small search."""
    return _statement(plan, _Scope(), with_metadata)


def _statement(plan: SearchPlan, scope: "_Scope", with_metadata: bool) -> Select[Any]:
    return _for_each_probe(_reranked(_SHORTLISTS[plan](scope), with_metadata))


def _for_each_probe(result: Select[Any]) -> Select[Any]:
    """Returns the statement that computes `result` for every probe. Its first column is the probe's number from 1."""
    unnested = func.unnest(VECTORS, CODES)
    rows = unnested.table_valued("vector", "code", with_ordinality="position", name="input").render_derived()
    columns = (
        cast(rows.c.position, Integer).label("position"),
        cast(rows.c.vector, Vector()).label("vector"),
        cast(rows.c.code, BIT(CODE_BITS)).label("code"),
    )
    # Without MATERIALIZED PostgreSQL would parse the text of the probe again for every comparison.
    probe = select(*columns).cte("probe").prefix_with("MATERIALIZED")
    of_probe = result.lateral("result")
    order = probe.c.position, of_probe.c.score.desc(), of_probe.c.centroid_score.desc(), of_probe.c.id
    return select(probe.c.position, *of_probe.c).select_from(probe.join(of_probe, true())).order_by(*order)


def _exact_shortlist(scope: "_Scope") -> Subquery:
    distance = centroid.c.embedding.max_inner_product(PROBE)
    statement = select(centroid.c.identity_id, (-distance).label("centroid_score")).where(
        centroid.c.collection_id == COLLECTION, centroid.c.model_id == MODEL
    )
    # Adding zero prevents the planner from reading an index in the order of the distance.
    return _filtered(statement, scope.condition).order_by(distance + 0).limit(SIZE).subquery("shortlist")


def _code_shortlist(scope: "_Scope") -> Subquery:
    """Compares the centroids with the nearest codes, and all centroids without a code."""
    of_model = centroid.c.collection_id == COLLECTION, centroid.c.model_id == MODEL
    bits = centroid.c.binary_code.hamming_distance(PROBE_CODE)
    coded = select(centroid.c.identity_id).where(*of_model, centroid.c.binary_code.is_not(None))
    coded = _filtered(coded, scope.condition).order_by(bits).limit(BY_CODE)
    uncoded = select(centroid.c.identity_id).where(*of_model, centroid.c.binary_code.is_(None))
    near = union_all(select(coded.subquery()), _filtered(uncoded, scope.condition)).subquery("near")
    distance = centroid.c.embedding.max_inner_product(PROBE)
    statement = (
        select(centroid.c.identity_id, (-distance).label("centroid_score"))
        .join(near, near.c.identity_id == centroid.c.identity_id)
        .where(*of_model)
    )
    return statement.order_by(distance + 0).limit(SIZE).subquery("shortlist")


def _hnsw_shortlist(scope: "_Scope") -> Subquery:
    """Traverses the HNSW index. It is partial and on an expression: ids and cast must match it as literals."""
    half = cast(PROBE, HALFVEC(scope.dim))
    distance = cast(centroid.c.embedding, HALFVEC(scope.dim)).max_inner_product(half)
    score = -centroid.c.embedding.max_inner_product(PROBE)
    statement = select(centroid.c.identity_id, score.label("centroid_score")).where(
        *hnsw.predicate(scope.collection_id, scope.model_id)
    )
    return _filtered(statement, scope.condition).order_by(distance).limit(SIZE).subquery("shortlist")


_SHORTLISTS = {
    SearchPlan.EXACT: _exact_shortlist,
    SearchPlan.BINARY_CODES: _code_shortlist,
    SearchPlan.HNSW: _hnsw_shortlist,
}


def _filtered(statement: Select[Any], condition: ColumnElement[bool] | None) -> Select[Any]:
    """Restricts centroids to identities that fulfil the condition."""
    if condition is None:
        return statement
    same = (identity.c.collection_id == centroid.c.collection_id) & (identity.c.id == centroid.c.identity_id)
    return statement.join(identity, same).where(condition)


def _reranked(shortlist: Subquery, with_metadata: bool) -> Select[Any]:
    """Returns the query for the columns of `Candidate`, in their order."""
    best = lateral(
        select(
            func.max(-template.c.embedding.max_inner_product(PROBE)).label("score"),
            func.count().label("template_count"),
        ).where(
            template.c.collection_id == COLLECTION,
            template.c.identity_id == shortlist.c.identity_id,
            template.c.model_id == MODEL,
        )
    )
    metadata = identity.c.metadata if with_metadata else cast(null(), JSONB).label("metadata")
    same = (identity.c.collection_id == COLLECTION) & (identity.c.id == shortlist.c.identity_id)
    ranked = (
        select(
            identity.c.id,
            identity.c.external_id,
            identity.c.label,
            metadata,
            best.c.score,
            shortlist.c.centroid_score,
            best.c.template_count,
        )
        .select_from(shortlist)
        .join(identity, same & IS_RETAINED)
        .join(best, best.c.template_count > 0)
        .order_by(best.c.score.desc(), shortlist.c.centroid_score.desc(), identity.c.id)
        .limit(TOP_K)
        .subquery("ranked")
    )
    counter = (
        select(func.max(-correction.c.embedding.max_inner_product(PROBE)))
        .where(
            correction.c.collection_id == COLLECTION,
            correction.c.identity_id == ranked.c.id,
            correction.c.model_id == MODEL,
        )
        .scalar_subquery()
    )
    overruled = func.coalesce(counter > ranked.c.score, False)
    return select(*ranked.c, counter.label("counter_score"), overruled.label("overruled"))
