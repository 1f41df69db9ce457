"""The API's composition root: builds every long-lived part, opens and closes it in one place."""

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from sqlalchemy.exc import OperationalError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.dependencies import ModelBundle, Registry
from service.api.middleware import BodyLimit, RequestId, SameOrigin
from service.api.problems import MEDIA_TYPE, install_handlers
from service.api.routes import collections, enrolment, health, identification, identities, models, verification
from service.api.schemas import ProblemView
from service.errors import CollectionNotFound, DatabaseUnavailable, StartupError
from service.gallery import ann, schema
from service.gallery import collections as gallery_collections
from service.gallery.database import Database
from service.gallery.server import database_url
from service.gallery.size import GallerySizes
from service.inference.bundle import EmbedderManifest, embedding_fingerprint
from service.inference.detector import YoloFaceDetector
from service.inference.embedder import FaceEmbedder
from service.inference.graph import RuntimeOptions
from service.inference.local import LocalEngine
from service.recognition.deciding import Deciding
from service.recognition.decision import DecisionPolicy, OperatingPoint
from service.recognition.enrolment import QualityGate
from service.settings import Settings, load_settings
from service.vision.image import ImageLimits

MOST_THREADS = 8
"""Past this a single picture gains nothing from more cores."""
LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
PROBLEM: dict[str, Any] = {
    "description": "A problem; docs/problems.md explains each code",
    "content": {MEDIA_TYPE: {"schema": ProblemView.model_json_schema()}},
}
log = logging.getLogger(__name__)


def create_app(settings: Settings) -> FastAPI:
    """The application; its lifespan opens the database and loads the models."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_registry(settings) as registry:
            app.state.registry = registry
            yield

    app = FastAPIOffline(  # its documentation pages load nothing from elsewhere
        title="Identity registry",
        summary="Enrol people from photos, verify them and find them again.",
        version="0.1.0",
        lifespan=lifespan,
    )
    for module in (enrolment, verification, identification, identities, collections, models, health):
        app.include_router(module.router, responses={"default": PROBLEM, 422: PROBLEM})
    install_handlers(app)
    app.add_middleware(BodyLimit, max_bytes=settings.limits.max_body_bytes)
    app.add_middleware(SameOrigin, local_names=LOCAL_NAMES if settings.server.on_loopback else None)
    app.add_middleware(RequestId)
    return app


def from_environment() -> ASGIApp:
    """What uvicorn runs in each worker."""
    return PlainStartupFailure(create_app(load_settings()))


@contextlib.asynccontextmanager
async def open_registry(settings: Settings) -> AsyncIterator[Registry]:
    """Everything that the routes need, ready to serve.

    Raises:
        StartupError: something is not as it must be; the words say what.
    """
    async with contextlib.AsyncExitStack() as stack:
        # The models load while the database starts: each takes about a second.
        loading = asyncio.create_task(asyncio.to_thread(build_engine, settings))
        try:
            database = await _open_database(settings, stack)
            engine, embedder = await loading
        finally:
            loading.cancel()
        await _prepare_gallery(settings, database, engine, embedder.manifest)
        await engine.start()
        stack.push_async_callback(engine.stop)
        maintenance = asyncio.create_task(_maintain_indexes(settings, database))
        stack.push_async_callback(_cancel, maintenance)
        precision = settings.inference.precision
        recognition = settings.recognition
        policy = DecisionPolicy(embedder.manifest.calibration, precision, OperatingPoint("fmr", recognition.fmr))
        if (problem := policy.default_problem()) is not None:
            log.warning("requests must say what they are decided by, since the default can't be kept: %s", problem)
        yield Registry(
            database=database,
            engine=engine,
            deciding=Deciding(policy, GallerySizes()),
            bundle=ModelBundle(settings.embedder.bundle, embedder.manifest),
            gate=QualityGate(
                recognition.min_face_px,
                recognition.min_sharpness,
                recognition.max_asymmetry,
                recognition.min_brightness,
                recognition.max_brightness,
                recognition.min_quality,
            ),
            precision=precision,
            schema_revision=schema.wanted_revision(),
        )


def build_engine(settings: Settings) -> tuple[LocalEngine, FaceEmbedder]:
    """Load both models. Raises StartupError."""
    inference = settings.inference
    threads = inference.threads or max(1, min((os.cpu_count() or 1) // settings.server.workers, MOST_THREADS))
    options = RuntimeOptions(inference.backend, inference.precision, threads)
    detector = YoloFaceDetector(
        settings.detector.bundle, options, settings.detector.image_size, settings.detector.min_score
    )
    embedder = FaceEmbedder(settings.embedder.bundle, options)
    limits = ImageLimits(settings.limits.max_image_bytes, settings.limits.max_image_pixels)
    return LocalEngine(detector, embedder, limits, inference.max_batch, inference.max_waiting), embedder


async def _open_database(settings: Settings, stack: contextlib.AsyncExitStack) -> Database:
    server = database_url(settings.database_url, settings.postgres_folder)
    url = await asyncio.to_thread(server.__enter__)
    stack.push_async_callback(asyncio.to_thread, server.__exit__, None, None, None)
    database = Database(url, settings.database.pool_size, settings.database.pool_timeout_s)
    stack.push_async_callback(database.close)
    return database


async def _prepare_gallery(
    settings: Settings, database: Database, engine: LocalEngine, manifest: EmbedderManifest
) -> None:
    """Migrate where asked to, then check what this release relies on, once, before the first request."""
    try:
        if settings.migrates_on_start:
            await asyncio.to_thread(schema.upgrade, database.url)
        async with database.transaction() as connection:
            if problem := await schema.schema_problem(connection, schema.wanted_revision()):
                raise StartupError(f"The database is not ready: {problem}")
            await schema.require_pgvector(connection)
            await gallery_collections.add_model(
                connection, engine.model_id, engine.dim, embedding_fingerprint(manifest)
            )
            try:
                await gallery_collections.get(connection, gallery_collections.DEFAULT)
            except CollectionNotFound:
                await gallery_collections.create(connection, gallery_collections.DEFAULT, engine.model_id)
    except (DatabaseUnavailable, OperationalError) as error:
        raise StartupError(f"The database can't be reached: {error.__cause__}") from error


async def _maintain_indexes(settings: Settings, database: Database) -> None:
    """Give collections that have grown large their index, and take it from those that have shrunk."""
    build_from = settings.database.ann_build_from
    while True:
        await asyncio.sleep(settings.database.ann_check_every_s)
        try:
            await ann.maintain(database, build_from, build_from // 2)
        except Exception as error:  # the database may be away; searches are exact until it works
            log.warning("indexes could not be maintained: %s", type(error).__name__)


async def _cancel(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


class PlainStartupFailure:
    """Shows an operator why the service can't start, in words instead of a traceback."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return

        async def send_plainly(message: Message) -> None:
            if message["type"] == "lifespan.startup.failed":
                _, found, words = message.get("message", "").rpartition("service.errors.StartupError: ")
                message = {**message, "message": words.strip()} if found else message
            await send(message)

        await self._app(scope, receive, send_plainly)
