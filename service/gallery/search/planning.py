"""Chooses the plan of a search that uses no index in memory, from the size of the gallery."""

import uuid
from typing import Any

from sqlalchemy import ColumnElement, Integer, Select, String, case, func, literal, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.gallery.search.results import SearchPlan
from service.gallery.storage.tables import centroid, identity

CODES_FROM = 5_000
"""Above this number of identities with a code, a search compares binary codes first. For fewer identities the
comparison of all centroids is as fast."""
MAX_UNCODED = 2_000
"""With more centroids without a code, a search compares all centroids instead of codes."""
FILTERED_EXACTLY = 20_000
"""A filtered search compares up to this number of matching identities exactly (about 20 ms at 512 dimensions)."""
SETTINGS = {"jit": "off", "max_parallel_workers_per_gather": "0"}
"""Compiling a scan of codes, or dividing it among processes, costs other requests more than it saves."""


async def estimated_rows(connection: AsyncConnection) -> dict[str, int]:
    """Returns the planner's estimates of the sizes of the main tables, without reading them."""
    query = text(
        "SELECT relname, greatest(reltuples, 0)::bigint FROM pg_class "
        "WHERE relnamespace = 'public'::regnamespace AND relname IN ('identity', 'template', 'centroid')"
    )
    return {row[0]: row[1] for row in await connection.execute(query)}


async def choose_plan(
    connection: AsyncConnection,
    collection_id: uuid.UUID,
    model_id: str,
    condition: ColumnElement[bool] | None = None,
) -> SearchPlan:
    """Chooses the plan and applies its settings to the transaction, in one statement.

    Args:
        condition: a condition on `identity`. Up to `FILTERED_EXACTLY` matching identities are compared exactly.
    """
    centroids = select(centroid.c.identity_id).where(
        centroid.c.collection_id == collection_id, centroid.c.model_id == model_id
    )
    facts = select(
        _counted(centroids.where(centroid.c.binary_code.is_not(None)), CODES_FROM).label("coded"),
        _counted(centroids.where(centroid.c.binary_code.is_(None)), MAX_UNCODED).label("uncoded"),
    ).cte("facts")
    has_codes = (facts.c.coded > CODES_FROM) & (facts.c.uncoded <= MAX_UNCODED)
    plan: Any = case((has_codes, literal(SearchPlan.BINARY_CODES, String)), else_=literal(SearchPlan.EXACT, String))
    if condition is not None:
        matching = select(identity.c.id).where(identity.c.collection_id == collection_id, condition)
        is_small = case((has_codes, _counted(matching, FILTERED_EXACTLY) <= FILTERED_EXACTLY), else_=True)
        plan = case((is_small, literal(SearchPlan.EXACT, String)), else_=plan)
    chosen = select(plan.label("plan")).select_from(facts).cte("chosen")
    statement = select(chosen.c.plan, *_settings(chosen.c.plan))
    return SearchPlan((await connection.execute(statement)).one().plan)


def _counted(rows: Select[Any], limit: int) -> ColumnElement[int]:
    """Returns a subquery that counts up to `limit` + 1 rows."""
    return select(func.count(type_=Integer)).select_from(rows.limit(limit + 1).subquery()).scalar_subquery()


def _settings(plan: ColumnElement[str]) -> list[ColumnElement[Any]]:
    """Returns the expressions that set the settings of a comparison of codes until the transaction ends."""
    compares_codes = plan == literal(SearchPlan.BINARY_CODES, String)
    return [case((compares_codes, func.set_config(name, value, True))) for name, value in SETTINGS.items()]
