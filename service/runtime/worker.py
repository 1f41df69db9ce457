"""Composition root of the inference worker: the local engine behind HTTP, for the APIs that share its token.

The worker decodes pictures from untrusted clients, so it has no access to the database and imports none of its modules.
"""

import asyncio
import contextlib
import hmac
from collections.abc import AsyncIterator
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from pydantic import BaseModel
from starlette.types import ASGIApp

from service.api.http.disconnect import DisconnectAwareEngine
from service.api.http.middleware import BodyLimit, RequestId
from service.api.http.problems import install_handlers
from service.errors import EngineUnavailable, MalformedBody, StartupError, Unauthorized, WorkerModelMismatch
from service.inference.bundle import read_embedder
from service.inference.engine import Engine
from service.inference.wire import MEDIA_TYPE, MODELS_HEADER, OBSERVE_PATH, pack_results, unpack_images
from service.runtime.engines import build_local, models_key
from service.runtime.settings import Settings, load_settings
from service.runtime.startup import StartupFailureMessage
from service.telemetry import exposition

PACKING_BYTES = 64 * 1024
"""Allowance for the encoding around the pictures of the largest request that an API accepts."""
MAX_SHOWN = 1000
"""Maximum number of characters of a caller's text that an error repeats."""
router = APIRouter()


class Alive(BaseModel):
    status: Literal["alive"] = "alive"


def create_worker(settings: Settings) -> FastAPI:
    """Returns the application. Its lifespan loads the models.

    Raises:
        StartupError: the worker is reachable from other machines and has no token.
    """
    if settings.inference.token is None and not settings.worker.on_loopback:
        raise StartupError(
            f"worker.host {settings.worker.host} is reachable from other machines; set inference.worker_token to the "
            "same secret here and on the APIs"
        )

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        bundles = [await asyncio.to_thread(read_embedder, bundle) for bundle in settings.embedder.bundles]
        manifests = [manifest for bundle in bundles for manifest in bundle.models]
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
    """Returns the application that uvicorn runs."""
    return StartupFailureMessage(create_worker(load_settings()))


def require_token(request: Request) -> None:
    """Checks the token before the body is read. Raises Unauthorized."""
    token: str | None = request.app.state.token
    sent = request.headers.get("authorization", "")
    if token is not None and not hmac.compare_digest(sent.encode(), f"Bearer {token}".encode()):
        raise Unauthorized("the token is wrong: inference.worker_token must be the same for APIs and workers")


def require_models(request: Request) -> None:
    """Raises WorkerModelMismatch unless the worker has every model that the API expects; it may have more."""
    expected, loaded = request.headers.get(MODELS_HEADER, ""), request.app.state.models
    if not set(expected.split(",")) <= set(loaded.split(",")):
        shown = expected[:MAX_SHOWN] or "another protocol"
        raise WorkerModelMismatch(f"the worker runs {loaded}; the API expects {shown}")


def get_engine(request: Request) -> Engine:
    return DisconnectAwareEngine(request.app.state.engine, request)


@router.post(OBSERVE_PATH, dependencies=[Depends(require_token), Depends(require_models)])
async def observe(request: Request, engine: Annotated[Engine, Depends(get_engine)]) -> Response:
    """Detects and embeds the faces of pictures. `service.inference.wire` defines both bodies."""
    images = unpack_images(await request.body())
    if unknown := {image.model_id for image in images} - {None, *engine.dims}:
        raise MalformedBody(f"the worker has no model {str(unknown.pop())[:MAX_SHOWN]!r}")
    results = await engine.observe(images)
    return Response(pack_results(results), media_type=MEDIA_TYPE)


@router.get("/healthz")
async def healthz() -> Alive:
    return Alive()


@router.get("/readyz", dependencies=[Depends(require_token)])
async def readyz(request: Request) -> dict[str, str]:
    """Reports that the models are loaded. A caller that names models gets 409 if one is missing."""
    if (failure := request.app.state.engine.failure) is not None:
        raise EngineUnavailable(failure)
    if MODELS_HEADER in request.headers:
        require_models(request)
    return {"status": "ready", "models": request.app.state.models}


@router.get("/metrics", response_class=Response)
async def read_metrics() -> Response:
    content, content_type = exposition.render()
    return Response(content, media_type=content_type)
