"""1:N search in SQL: the size of a gallery, a shortlist by centroids, and a rerank by raw templates."""

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pgvector import HalfVector
from pgvector.sqlalchemy import HALFVEC
from sqlalchemy import CTE, ColumnElement, Select, cast, func, lateral, select, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from service.gallery.index import hnsw
from service.gallery.index.centroids import binary_code
from service.gallery.people import collections
from service.gallery.people.collections import Collection, ModelsChangedError
from service.gallery.search.explain import explain
from service.gallery.search.filters import condition_of
from service.gallery.search.planning import CODES_FROM, choose_plan
from service.gallery.search.results import Candidate, SearchPlan, SearchResult
from service.gallery.storage.database import Database
from service.gallery.storage.tables import centroid, correction, identity, template

Floats = npt.NDArray[np.float32]
MIN_SHORTLIST = 100
SHORTLIST_PER_RESULT = 4
NEAREST_BY_CODE = 800
"""Centroids that are compared after the comparison of all binary codes."""
ALWAYS_COUNTED = 1_000
"""Galleries up to this number of identities are counted for every request, in less than a millisecond."""
CACHE_S_PER_IDENTITY = 1e-4
"""The count of a gallery with a million identities is cached for 100 s."""


@dataclass(frozen=True, slots=True)
class GallerySize:
    """The number of identities that have a template of the model, and the number of these templates."""

    people: int
    templates: int


class GallerySizes:
    """Counts galleries. The count of a large gallery is expensive and is cached: the larger the gallery, the longer."""

    def __init__(self) -> None:
        self._cache: dict[tuple[uuid.UUID, str], tuple[float, GallerySize]] = {}

    async def of(self, connection: AsyncConnection, collection_id: uuid.UUID, model_id: str) -> GallerySize:
        """Returns the size of a gallery. A cached size is at most `CACHE_S_PER_IDENTITY` seconds per identity old."""
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
    statement = select(func.count(), func.coalesce(func.sum(centroid.c.template_count), 0)).where(
        centroid.c.collection_id == collection_id, centroid.c.model_id == model_id
    )
    people, templates = (await connection.execute(statement)).one()
    return GallerySize(people, int(templates))


@dataclass(frozen=True)
class GallerySearch:
    """The two transactions of an identification: one before the pictures are observed, one after."""

    database: Database
    sizes: GallerySizes

    async def begin(self, collection: str) -> tuple[Collection, GallerySize]:
        """Reads the collection and its size, on which the decision depends. Raises CollectionNotFound."""
        async with self.database.transaction() as connection:
            current = await collections.get(connection, collection)
            return current, await self.sizes.of(connection, current.id, current.model_id)

    async def run(
        self,
        collection: Collection,
        size: GallerySize,
        probes: Sequence[Floats],
        top_k: int,
        metadata_filter: Mapping[str, Any] | None,
        explained: bool,
    ) -> list[SearchResult]:
        """Searches for each normalised (dim,) probe in one transaction; returns the results in the order of the probes.

        Raises:
            CollectionNotFound, InvalidFilter
            ModelsChangedError: the collection's active model has changed since `begin`.
        """
        condition = None if metadata_filter is None else condition_of(metadata_filter)
        async with self.database.transaction() as connection:
            current = await collections.get(connection, collection.name)
            if (current.id, current.model_id) != (collection.id, collection.model_id):
                raise ModelsChangedError
            scope = connection, collection.id, collection.model_id
            plan = SearchPlan.EXACT  # a small gallery needs no index
            if size.people > CODES_FROM:
                plan = await choose_plan(*scope, shortlist_size(top_k), condition)
            return [await nearest(*scope, probe, top_k, condition, explained, plan) for probe in probes]


def shortlist_size(top_k: int) -> int:
    """Returns the number of centroids whose templates are compared."""
    return max(MIN_SHORTLIST, SHORTLIST_PER_RESULT * top_k)


async def nearest(
    connection: AsyncConnection,
    collection_id: uuid.UUID,
    model_id: str,
    probe: Floats,
    top_k: int,
    condition: ColumnElement[bool] | None = None,
    explained: bool = False,
    plan: SearchPlan | None = None,
) -> SearchResult:
    """Returns the `top_k` identities whose templates are nearest to a normalised probe, best first.

    Args:
        condition: a condition on `identity`.
        explained: execute the statement a second time and return PostgreSQL's plan.
        plan: chosen by `choose_plan` in this transaction; None: this function chooses.
    """
    size = shortlist_size(top_k)
    plan = plan or await choose_plan(connection, collection_id, model_id, size, condition)
    shortlist = _SHORTLISTS[plan](collection_id, model_id, probe, size, condition)
    statement = _reranked(shortlist, collection_id, model_id, probe, top_k)
    candidates = [Candidate(**row._mapping) for row in await connection.execute(statement)]
    return SearchResult(candidates, plan, size, await explain(connection, statement) if explained else None)


def _exact_shortlist(
    collection_id: uuid.UUID, model_id: str, probe: Floats, size: int, condition: ColumnElement[bool] | None
) -> CTE:
    distance = centroid.c.embedding.max_inner_product(probe)
    statement = select(centroid.c.identity_id, (-distance).label("centroid_score")).where(
        centroid.c.collection_id == collection_id, centroid.c.model_id == model_id
    )
    # Adding zero prevents the planner from reading an index in the order of the distance.
    return _filtered(statement, condition).order_by(distance + 0).limit(size).cte("shortlist")


def _code_shortlist(
    collection_id: uuid.UUID, model_id: str, probe: Floats, size: int, condition: ColumnElement[bool] | None
) -> CTE:
    """Compares the centroids with the nearest codes, and all centroids without a code."""
    of_model = centroid.c.collection_id == collection_id, centroid.c.model_id == model_id
    bits = centroid.c.binary_code.hamming_distance(binary_code(probe))
    coded = select(centroid.c.identity_id).where(*of_model, centroid.c.binary_code.is_not(None))
    coded = _filtered(coded, condition).order_by(bits).limit(max(NEAREST_BY_CODE, size))
    uncoded = select(centroid.c.identity_id).where(*of_model, centroid.c.binary_code.is_(None))
    near = union_all(select(coded.subquery()), _filtered(uncoded, condition)).subquery("near")
    distance = centroid.c.embedding.max_inner_product(probe)
    statement = (
        select(centroid.c.identity_id, (-distance).label("centroid_score"))
        .join(near, near.c.identity_id == centroid.c.identity_id)
        .where(*of_model)
    )
    return statement.order_by(distance + 0).limit(size).cte("shortlist")


def _hnsw_shortlist(
    collection_id: uuid.UUID, model_id: str, probe: Floats, size: int, condition: ColumnElement[bool] | None
) -> CTE:
    """Traverses the HNSW index. It is partial and on an expression: ids and cast must match it as literals."""
    distance = cast(centroid.c.embedding, HALFVEC(len(probe))).max_inner_product(HalfVector(probe))
    score = -centroid.c.embedding.max_inner_product(probe)
    statement = select(centroid.c.identity_id, score.label("centroid_score")).where(
        *hnsw.predicate(collection_id, model_id)
    )
    return _filtered(statement, condition).order_by(distance).limit(size).cte("shortlist")


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
    overruled = func.coalesce(counter > ranked.c.score, False)
    return select(*ranked.c, counter.label("counter_score"), overruled.label("overruled")).order_by(*order)
