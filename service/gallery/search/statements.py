"""The statement of a 1:N search: a shortlist by centroids and a rerank by raw templates, for several probes at once.

The probes are the rows of a materialised table `probe`, and a LATERAL subquery computes the result of each row. So one
statement searches for every face of a picture, and the server parses each probe once.
"""

from functools import cache
from typing import Any

from pgvector.sqlalchemy import BIT, Vector
from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    ColumnElement,
    Integer,
    ScalarSelect,
    Select,
    Subquery,
    Table,
    Text,
    Uuid,
    bindparam,
    case,
    cast,
    func,
    literal_column,
    null,
    select,
    text,
    true,
    union,
    union_all,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncConnection

from service.gallery.index.snapshots import SERVER_COLUMNS, Server
from service.gallery.people.retention import IS_RETAINED
from service.gallery.search.results import SearchPlan
from service.gallery.storage.tables import (
    CODE_BITS,
    centroid,
    centroid_change,
    correction,
    identity,
    shown_external_id,
    template,
)

MAX_CHANGED = 2_000
"""Maximum number of identities that have changed since the snapshot of an index in memory, and are compared as well."""
_GENERIC_PLAN = text("SET LOCAL plan_cache_mode = force_generic_plan")
_ANY_PLAN = text("SET LOCAL plan_cache_mode = auto")
# Columns of the row of `probe` for which the LATERAL subquery is computed.
PROBE: ColumnElement[Any] = literal_column("probe.vector", Vector())
PROBE_CODE: ColumnElement[Any] = literal_column("probe.code", BIT(CODE_BITS))
PROBE_NEAR: ColumnElement[Any] = literal_column("probe.near", ARRAY(Uuid))

COLLECTION = bindparam("collection", type_=Uuid())
MODEL = bindparam("model", type_=Text())
SIZE, BY_CODE, TOP_K = (bindparam(name, type_=Integer()) for name in ("size", "by_code", "top_k"))
VECTORS, CODES, NEAR = (bindparam(name, type_=ARRAY(Text)) for name in ("vectors", "codes", "near"))
XMIN, VISIBLE = bindparam("xmin", type_=BigInteger()), bindparam("visible", type_=Text())
ALL_CHANGED = bindparam("all_changed", type_=Boolean())
"""False: the caller has added those of the changed identities that fulfil a condition to the nearest ones."""
CHANGED = (
    select(centroid_change.c.identity_id)
    .where(
        centroid_change.c.collection_id == COLLECTION,
        centroid_change.c.model_id == MODEL,
        centroid_change.c.transaction_id >= XMIN,
        text("NOT pg_visible_in_snapshot(transaction_id::text::xid8, CAST(:visible AS pg_snapshot))").bindparams(
            VISIBLE
        ),
    )
    # The order makes PostgreSQL start at `XMIN` in the index, whose selectivity a generic plan does not know.
    .order_by(centroid_change.c.transaction_id)
    .limit(MAX_CHANGED + 1)
    .cte("changed")
    .prefix_with("MATERIALIZED")
)


FACTS = select(func.count(), text(SERVER_COLUMNS)).select_from(CHANGED)
"""What `SearchPlan.IN_MEMORY` returns with its candidates, for a search without any."""


async def use_generic_plans(connection: AsyncConnection, server: Server) -> None:
    """Makes the plans of the following statements independent of their parameters, until `use_any_plans`.

    Computing a plan takes longer than executing it. Citus needs the parameters: they determine the node.
    """
    if not server.is_node:
        await connection.execute(_GENERIC_PLAN)


async def use_any_plans(connection: AsyncConnection) -> None:
    await connection.execute(_ANY_PLAN)


def statement_of(plan: SearchPlan, condition: ColumnElement[bool] | None, with_metadata: bool) -> Select[Any]:
    """Returns the statement of a search. Its columns are the number of the probe, from 1, and those of `Candidate`.

    With `SearchPlan.IN_MEMORY` the number of changed identities and the columns of `SERVER_COLUMNS` follow.
    """
    return _unfiltered(plan, with_metadata) if condition is None else _statement(plan, condition, with_metadata)


@cache
def _unfiltered(plan: SearchPlan, with_metadata: bool) -> Select[Any]:
    """Returns the statement of searches without a filter. Building one takes longer than a small search."""
    return _statement(plan, None, with_metadata)


def _statement(plan: SearchPlan, condition: ColumnElement[bool] | None, with_metadata: bool) -> Select[Any]:
    result = _for_each_probe(_reranked(_SHORTLISTS[plan](condition), with_metadata))
    if plan is not SearchPlan.IN_MEMORY:
        return result
    changed = select(func.count()).select_from(CHANGED).scalar_subquery()
    return result.add_columns(changed, text(SERVER_COLUMNS))


def _for_each_probe(result: Select[Any]) -> Select[Any]:
    unnested = func.unnest(VECTORS, CODES, NEAR)
    rows = unnested.table_valued("vector", "code", "near", with_ordinality="position", name="input").render_derived()
    columns = (
        cast(rows.c.position, Integer).label("position"),
        cast(rows.c.vector, Vector()).label("vector"),
        cast(rows.c.code, BIT(CODE_BITS)).label("code"),
        cast(rows.c.near, ARRAY(Uuid)).label("near"),
    )
    # Without MATERIALIZED PostgreSQL would parse the text of the probe again for every comparison.
    probe = select(*columns).cte("probe").prefix_with("MATERIALIZED")
    of_probe = result.lateral("result")
    order = probe.c.position, of_probe.c.score.desc(), of_probe.c.centroid_score.desc(), of_probe.c.id
    return select(probe.c.position, *of_probe.c).select_from(probe.join(of_probe, true())).order_by(*order)


def _exact_shortlist(condition: ColumnElement[bool] | None) -> Subquery:
    distance = centroid.c.embedding.max_inner_product(PROBE)
    statement = select(centroid.c.identity_id, centroid.c.template_count, (-distance).label("centroid_score")).where(
        centroid.c.collection_id == COLLECTION, centroid.c.model_id == MODEL
    )
    # Adding zero prevents the planner from reading an index in the order of the distance.
    return _filtered(statement, condition).order_by(distance + 0).limit(SIZE).subquery("shortlist")


def _code_shortlist(condition: ColumnElement[bool] | None) -> Subquery:
    """Compares the centroids with the nearest codes, and all centroids without a code."""
    of_model = centroid.c.collection_id == COLLECTION, centroid.c.model_id == MODEL
    bits = centroid.c.binary_code.hamming_distance(PROBE_CODE)
    coded = select(centroid.c.identity_id).where(*of_model, centroid.c.binary_code.is_not(None))
    coded = _filtered(coded, condition).order_by(bits).limit(BY_CODE)
    uncoded = select(centroid.c.identity_id).where(*of_model, centroid.c.binary_code.is_(None))
    near = union_all(select(coded.subquery()), _filtered(uncoded, condition)).subquery("near")
    return _nearest_of(near, None)


def _memory_shortlist(condition: ColumnElement[bool] | None) -> Subquery:
    """Compares the centroids that an index in memory has returned, and those that have changed since its snapshot.

    The condition is None, because building a statement for each condition takes several milliseconds.
    """
    returned = select(func.unnest(PROBE_NEAR, type_=Uuid()).label("identity_id"))
    near = union(returned, select(CHANGED.c.identity_id).where(ALL_CHANGED)).subquery("near")
    return _nearest_of(near, condition)


_SHORTLISTS = {
    SearchPlan.EXACT: _exact_shortlist,
    SearchPlan.BINARY_CODES: _code_shortlist,
    SearchPlan.IN_MEMORY: _memory_shortlist,
}


def _nearest_of(near: Subquery, condition: ColumnElement[bool] | None) -> Subquery:
    """Compares the centroids of the identities in `near`.

    Each is read by its key: LIMIT 1 prevents a join that reads the whole table, whatever size of `near` a generic plan
    assumes.
    """
    distance = centroid.c.embedding.max_inner_product(PROBE)
    one = select(centroid.c.identity_id, centroid.c.template_count, (-distance).label("centroid_score")).where(
        centroid.c.collection_id == COLLECTION,
        centroid.c.model_id == MODEL,
        centroid.c.identity_id == near.c.identity_id,
    )
    compared = _filtered(one, condition).limit(1).lateral("compared")
    ordered = select(compared).select_from(near.join(compared, true())).order_by(compared.c.centroid_score.desc())
    return ordered.limit(SIZE).subquery("shortlist")


def _filtered(statement: Select[Any], condition: ColumnElement[bool] | None) -> Select[Any]:
    """Restricts centroids to identities that fulfil the condition."""
    if condition is None:
        return statement
    same = (identity.c.collection_id == centroid.c.collection_id) & (identity.c.id == centroid.c.identity_id)
    return statement.join(identity, same).where(condition)


def _reranked(shortlist: Subquery, with_metadata: bool) -> Select[Any]:
    """Returns the query for the columns of `Candidate`, in their order."""
    best = _highest_cosine(template, shortlist.c.identity_id)
    # The centroid of a single template is that template.
    score = case((shortlist.c.template_count == 1, shortlist.c.centroid_score), else_=best).label("score")
    scored = select(shortlist, score).order_by(score.desc(), shortlist.c.centroid_score.desc(), shortlist.c.identity_id)
    # OFFSET 0 keeps this order, so that PostgreSQL reads the rows of identities one by one until it has `TOP_K`.
    scores = scored.offset(0).subquery("scores")
    metadata = identity.c.metadata if with_metadata else cast(null(), JSONB).label("metadata")
    row = (
        select(identity.c.id, shown_external_id(identity), identity.c.label, identity.c.named, metadata)
        .where(identity.c.collection_id == COLLECTION, identity.c.id == scores.c.identity_id, IS_RETAINED)
        .limit(1)  # each is read by its key, as in `_nearest_of`
        .lateral("row")
    )
    ranked = (
        select(*row.c, scores.c.score, scores.c.centroid_score, scores.c.template_count)
        .select_from(scores.join(row, true()))
        .order_by(scores.c.score.desc(), scores.c.centroid_score.desc(), scores.c.identity_id)
        .limit(TOP_K)
        .subquery("ranked")
    )
    counter = _highest_cosine(correction, ranked.c.id)
    overruled = func.coalesce(counter > ranked.c.score, False)
    return select(*ranked.c, counter.label("counter_score"), overruled.label("overruled"))


def _highest_cosine(table: Table, identity_id: ColumnElement[Any]) -> ScalarSelect[Any]:
    """Returns a subquery for the highest cosine of the probe to the embeddings that an identity has in this table."""
    of_identity = table.c.collection_id == COLLECTION, table.c.identity_id == identity_id, table.c.model_id == MODEL
    return select(func.max(-table.c.embedding.max_inner_product(PROBE))).where(*of_identity).scalar_subquery()
