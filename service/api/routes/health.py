"""GET /healthz, /readyz and /metrics"""

import asyncio
import contextlib
from typing import Literal

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse, Response
from pydantic import BaseModel, Field

from service.api.http.access import MetricsAccess
from service.api.state import RegistryDependency
from service.errors import DatabaseUnavailable, Unavailable
from service.gallery.search.sizes import estimated_rows
from service.gallery.storage.schema import schema_problem
from service.jobs.queue import queued_tasks
from service.telemetry import metrics

PATIENCE_S = 5
router = APIRouter(tags=["health"])


class Alive(BaseModel):
    status: Literal["alive"] = "alive"


class Ready(BaseModel):
    status: Literal["ready"] = "ready"
    model_id: str
    schema_revision: str
    inference: str = Field("ready", description="or why no picture can be looked at just now")


@router.get("/healthz", summary="The process lives")
async def healthz() -> Alive:
    return Alive()


@router.get("/readyz", summary="The process can do its work")
async def readyz(registry: RegistryDependency) -> Ready:
    """The database answers, and its schema is one that this release works with; else 503.

    A service whose workers are away stays ready: its gallery can be read and people can be deleted, and pictures get a
    503 of their own.
    """
    try:
        async with asyncio.timeout(PATIENCE_S), registry.database.transaction() as connection:
            problem = await schema_problem(connection, registry.release)
    except TimeoutError:
        raise DatabaseUnavailable(f"the database did not answer within {PATIENCE_S} s") from None
    if problem is not None:
        raise Unavailable(problem)
    return Ready(
        model_id=registry.engine.model_id,
        schema_revision=registry.release.wanted,
        inference=registry.engine.problem or "ready",
    )


@router.get("/metrics", summary="Figures for Prometheus", response_class=PlainTextResponse)
async def prometheus(registry: RegistryDependency, access: MetricsAccess) -> Response:
    """Latencies, queues, batches, decisions, scores, sizes, workers; nothing that tells one person from another."""
    for state, count in registry.database.pool.items():
        metrics.POOL.labels(state).set(count)
    with contextlib.suppress(DatabaseUnavailable, TimeoutError):
        async with asyncio.timeout(PATIENCE_S), registry.database.transaction() as connection:
            sizes = await estimated_rows(connection) if access.collection is None else {}
            for table, rows in sizes.items():
                metrics.GALLERY.labels(table).set(rows)
            for state, tasks in (await queued_tasks(connection)).items():
                metrics.TASKS.labels(state).set(tasks)
    return metrics.answer()
