"""Routes of GET /healthz, /readyz and /metrics."""

from typing import Literal

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse, Response
from pydantic import BaseModel, Field

from service.api.http.access import MetricsAccess
from service.api.state import State
from service.errors import Unavailable
from service.telemetry import exposition

router = APIRouter(tags=["health"])


class Alive(BaseModel):
    status: Literal["alive"] = "alive"


class Ready(BaseModel):
    status: Literal["ready"] = "ready"
    model_id: str
    schema_revision: str
    inference: str = Field("ready", description="`ready`, or the reason why no picture can be processed")


@router.get("/healthz", summary="Check that the process is alive")
async def healthz() -> Alive:
    """Returns 200 if the process responds. It checks neither the database nor the models and requires no API key."""
    return Alive()


@router.get("/readyz", summary="Check that the process can serve requests")
async def readyz(state: State) -> Ready:
    """Returns 503 unless the database responds and this release works with its schema.

    A service without a reachable worker is ready: identities can be read and erased, but pictures get 503.
    """
    if (problem := state.background.problem or state.engine.failure) is not None:
        raise Unavailable(problem)
    revision = await state.readiness.check()
    problem = state.engine.problem or "ready"
    return Ready(model_id=state.engine.model_id, schema_revision=revision, inference=problem)


@router.get("/metrics", summary="Read the metrics in Prometheus' text format", response_class=PlainTextResponse)
async def read_metrics(state: State, access: MetricsAccess) -> Response:
    """Returns latencies, queues, batches, decisions, scores, sizes and workers. No metric identifies a person.

    A key that is restricted to one collection gets no metric that adds up data of all collections.
    """
    everything = access.collection is None
    await state.monitoring.update(with_gallery=everything)
    content, content_type = exposition.render(everything)
    return Response(content, media_type=content_type)
