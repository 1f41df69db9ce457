"""The worker's composition root: the local engine behind HTTP, for the APIs that share its token.

It has no way to the database: what decodes strangers' pictures should reach nothing else.
"""

import asyncio
import contextlib
import hmac
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from starlette.types import ASGIApp

from service.api.http.middleware import BodyLimit, RequestId
from service.api.http.problems import install_handlers
from service.api.routes.health import Alive
from service.api.state import DisconnectAwareEngine
from service.errors import MalformedBody, StartupError, Unauthorized, WrongWorker
from service.inference.bundle import read_embedder
from service.inference.engine import Engine
from service.inference.wire import MEDIA_TYPE, MODELS_HEADER, OBSERVE_PATH, pack_results, unpack_images
from service.runtime.engines import build_local, models_key
from service.runtime.settings import Settings, load_settings
from service.runtime.startup import StartupFailureMessage
from service.telemetry.metrics import answer as metrics_answer

PACKING_BYTES = 64 * 1024
"""Room for what is wrapped around the pictures of the largest request that an API accepts."""
router = APIRouter()


def create_worker(settings: Settings) -> FastAPI:
    """The application; its lifespan loads the models.

    Raises:
        StartupError: anybody could send it pictures.
    """
    if settings.inference.token is None and not settings.worker.on_loopback:
        raise StartupError(
            f"worker.host {settings.worker.host} can be reached from other machines: set inference.worker_token to the "
            "same secret here and on the APIs"
        )

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        manifests = [await asyncio.to_thread(read_embedder, bundle) for bundle in settings.embedder.bundles]
        engine = await asyncio.to_thread(build_local, settings)
        await engine.start()
        app.state.engine, app.state.models = engine, models_key(settings, manifests)
        yield
        await engine.stop()

    app = FastAPI(title="Identity registry worker", lifespan=lifespan, openapi_url=None)
    app.state.token = settings.inference.token
    app.include_router(router)
    install_handlers(app)
    app.add_middleware(BodyLimit, max_bytes=settings.limits.max_body_bytes + PACKING_BYTES)
    app.add_middleware(RequestId)
    return app


def from_environment() -> ASGIApp:
    """What uvicorn runs."""
    return StartupFailureMessage(create_worker(load_settings()))


def require_token(request: Request) -> None:
    """Raises Unauthorized, before the body is read."""
    token: str | None = request.app.state.token
    given = request.headers.get("authorization", "")
    if token is not None and not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
        raise Unauthorized("the worker expects another token: inference.worker_token must be the same on both sides")


def require_models(request: Request) -> None:
    """A worker may have more models than an API knows of, as while both are given a new one. Raises WrongWorker."""
    wanted, ours = request.headers.get(MODELS_HEADER, ""), request.app.state.models
    if not set(wanted.split(",")) <= set(ours.split(",")):
        raise WrongWorker(f"the worker runs {ours}, the API expects {wanted or 'another protocol'}")


def get_engine(request: Request) -> Engine:
    return DisconnectAwareEngine(request.app.state.engine, request)


@router.post(OBSERVE_PATH, dependencies=[Depends(require_token), Depends(require_models)])
async def observe(request: Request, engine: Annotated[Engine, Depends(get_engine)]) -> Response:
    """Pictures in, faces out, as `service.inference.wire` writes them."""
    images = unpack_images(await request.body())
    if unknown := {image.model_id for image in images} - {None, *engine.dims}:
        raise MalformedBody(f"the worker has no model {unknown.pop()!r}")
    results = await engine.observe(images)
    return Response(pack_results(results), media_type=MEDIA_TYPE)


@router.get("/healthz")
async def healthz() -> Alive:
    return Alive()


@router.get("/readyz", dependencies=[Depends(require_token)])
async def readyz(request: Request) -> dict[str, str]:
    """The models are loaded; whoever names models hears whether they are there."""
    if MODELS_HEADER in request.headers:
        require_models(request)
    return {"status": "ready", "models": request.app.state.models}


@router.get("/metrics", response_class=Response)
async def metrics() -> Response:
    return metrics_answer()
