"""The API's composition root: builds every long-lived part, opens and closes it in one place."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from sqlalchemy.exc import OperationalError
from starlette.types import ASGIApp

from service.api.dependencies import ModelBundle, Registry
from service.api.middleware import BodyLimit, Measured, RequestId, SameOrigin
from service.api.problems import MEDIA_TYPE, install_handlers
from service.api.routes import (
    collections,
    enrolment,
    health,
    identification,
    identities,
    models,
    regrouping,
    verification,
)
from service.api.schemas import ProblemView
from service.api.startup import PlainStartupFailure
from service.engines import build_engine
from service.errors import CollectionNotFound, DatabaseUnavailable, StartupError
from service.gallery import ann, idempotency, keys, schema
from service.gallery import collections as gallery_collections
from service.gallery.database import Database
from service.gallery.keyring import KeyRing
from service.gallery.server import database_url
from service.gallery.size import GallerySizes
from service.inference.bundle import EmbedderManifest, embedding_fingerprint, read_embedder
from service.inference.engine import Engine
from service.recognition.deciding import Deciding
from service.recognition.decision import DecisionPolicy, OperatingPoint
from service.recognition.duplicates import Lines
from service.recognition.gate import QualityGate
from service.settings import Settings, load_settings

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
    for module in (enrolment, verification, identification, identities, regrouping, collections, models, health):
        app.include_router(module.router, responses={"default": PROBLEM, 422: PROBLEM})
    install_handlers(app)
    app.add_middleware(BodyLimit, max_bytes=settings.limits.max_body_bytes)
    app.add_middleware(SameOrigin, local_names=LOCAL_NAMES if _is_open(settings) else None)
    app.add_middleware(RequestId)
    app.add_middleware(Measured)
    return app


def _is_open(settings: Settings) -> bool:
    """Whether everybody on this machine is answered, any page in a browser included, so that names must be checked."""
    return settings.server.on_loopback and not settings.server.keys_required


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
        manifest = await asyncio.to_thread(read_embedder, settings.embedder.bundle)
        loading = asyncio.create_task(asyncio.to_thread(build_engine, settings, manifest))
        try:
            database = await _open_database(settings, stack)
            engine = await loading
        finally:
            loading.cancel()
        await _prepare_gallery(settings, database, engine, manifest)
        await engine.start()
        stack.push_async_callback(engine.stop)
        maintenance = asyncio.create_task(_maintain(settings, database))
        stack.push_async_callback(_cancel, maintenance)
        precision = settings.inference.precision
        recognition = settings.recognition
        policy = DecisionPolicy(manifest.calibration, precision, OperatingPoint("fmr", recognition.fmr))
        if (problem := policy.default_problem()) is not None:
            log.warning("requests must say what they are decided by, since the default can't be kept: %s", problem)
        yield Registry(
            database=database,
            engine=engine,
            deciding=Deciding(policy, GallerySizes(), recognition.duplicate_fpir),
            bundle=ModelBundle(settings.embedder.bundle, manifest),
            gate=QualityGate(
                recognition.min_face_px,
                recognition.min_sharpness,
                recognition.max_asymmetry,
                recognition.min_brightness,
                recognition.max_brightness,
                recognition.min_quality,
            ),
            lines=Lines(),
            precision=precision,
            release=schema.this_release(),
            keys=KeyRing(database) if settings.server.keys_required else None,
        )


async def _open_database(settings: Settings, stack: contextlib.AsyncExitStack) -> Database:
    server = database_url(settings.database_url, settings.postgres_folder)
    url = await asyncio.to_thread(server.__enter__)
    stack.push_async_callback(asyncio.to_thread, server.__exit__, None, None, None)
    database = Database(url, settings.database.pool_size, settings.database.pool_timeout_s)
    stack.push_async_callback(database.close)
    return database


async def _prepare_gallery(settings: Settings, database: Database, engine: Engine, manifest: EmbedderManifest) -> None:
    """Migrate where asked to, then check what this release relies on, once, before the first request."""
    try:
        release = schema.this_release()
        if settings.migrates_on_start:
            await asyncio.to_thread(schema.upgrade, database.url)
        async with database.transaction() as connection:
            if problem := await schema.schema_problem(connection, release):
                raise StartupError(f"The database is not ready: {problem}")
            if settings.server.keys_required and not await keys.any_valid(connection):
                log.warning("every request will be refused, since there is no API key: `python -m service keys create`")
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


async def _maintain(settings: Settings, database: Database) -> None:
    """Give collections that have grown large their index, take it from those that have shrunk, forget old answers."""
    build_from = settings.database.ann_build_from
    while True:
        await asyncio.sleep(settings.database.ann_check_every_s)
        try:
            async with database.transaction() as connection:
                await idempotency.purge(connection)
            await ann.maintain(database, build_from, build_from // 2)
        except Exception as error:  # the database may be away; searches are exact until it works
            log.warning("the gallery could not be maintained: %s", str(error).partition("\n")[0])


async def _cancel(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
