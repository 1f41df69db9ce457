"""The API's composition root: builds every long-lived part, opens and closes it in one place."""

import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from fastapi import Depends, FastAPI
from fastapi.responses import RedirectResponse
from fastapi_offline import FastAPIOffline
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from starlette.types import ASGIApp

from service.api.http.middleware import BodyLimit, RequestMetrics, RequestId, SameOrigin
from service.api.http.problems import MEDIA_TYPE, install_handlers, problem_examples
from service.api.http.query_parameters import known_parameters
from service.api.http.rates import Rates
from service.api.routes import (
    audit,
    collections,
    corrections,
    embedding,
    enrolment,
    health,
    identification,
    identities,
    jobs,
    merge_split_move,
    model_migration,
    models,
    prediction,
    verification,
)
from service.api.schemas.all_schemas import ProblemView
from service.api.state import Classes, LoadedBundle, Registry
from service.errors import CollectionNotFound, DatabaseUnavailable, StartupError, StorageFull
from service.gallery.access import api_keys
from service.gallery.access.keyring import KeyRing
from service.gallery.jobs.jobs import Job
from service.gallery.people import collections as gallery_collections
from service.gallery.search.sizes import GallerySizes
from service.gallery.storage import row_security, schema
from service.gallery.storage.database import Database
from service.gallery.storage.server import database_url
from service.inference.bundle import EmbedderManifest, Precision, embedding_fingerprint, read_embedder
from service.inference.classifier import Classifier
from service.jobs import bulk_enrolment, reembedding, runner
from service.jobs.batches import Jobs, JobKind, model_need
from service.jobs.bulk_enrolment import BulkEnrolment
from service.jobs.maintenance import Maintenance
from service.jobs.queue import MAINTAIN, BATCH, PREPARE, Queue, Work
from service.jobs.reembedding import Reembedding
from service.jobs.sources import Archive, Folder, PictureSource
from service.jobs.uploads import Uploads
from service.recognition.decision import DecisionPolicy, OperatingPoint
from service.recognition.decision_resolver import DecisionResolver
from service.recognition.duplicates import EnrolmentLocks
from service.recognition.gate import QualityGate
from service.recognition.read_audit import ReadAuditBuffer
from service.runtime.engines import build_engine
from service.runtime.secret_keys import open_audit_trail, open_crop_cipher
from service.runtime.settings import Settings, load_settings
from service.runtime.startup import StartupFailureMessage
from service.runtime.tracing import Tracing

LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
ROUTES = (
    enrolment,
    verification,
    identification,
    embedding,
    prediction,
    identities,
    merge_split_move,
    corrections,
    collections,
    model_migration,
    jobs,
    audit,
    models,
    health,
)
PROBLEM: dict[str, Any] = {
    "description": "A problem; docs/problems.md explains each code",
    "content": {MEDIA_TYPE: {"schema": ProblemView.model_json_schema(), "examples": problem_examples()}},
}
ALIVE_EVERY_S = 5
FEW_TEMPLATES = 32
"""As many as one request can enrol."""
log = logging.getLogger(__name__)


def create_app(settings: Settings) -> FastAPI:
    """The application; its lifespan opens the database and loads the models."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            registry = await stack.enter_async_context(open_registry(settings))
            if settings.jobs.in_api:
                running = asyncio.create_task(run_jobs(settings, registry))
                stack.push_async_callback(_cancel, running)
            stack.enter_context(tracing.of(registry.database, registry.owner))
            app.state.registry = registry
            yield

    app = FastAPIOffline(  # its documentation pages load nothing from elsewhere
        title="Identity registry",
        summary="Enrol people from photos, verify them and find them again.",
        version="0.1.0",
        lifespan=lifespan,
    )
    tracing = Tracing(app, settings.server.otlp_endpoint)
    for module in ROUTES:
        # Probes and scrapers may add what they like to an address.
        checks = [] if module is health else [Depends(known_parameters)]
        app.include_router(module.router, dependencies=checks, responses={"default": PROBLEM, 422: PROBLEM})
    app.add_api_route("/", _to_documentation, include_in_schema=False)
    install_handlers(app)
    archives = {f"{jobs.router.prefix}{jobs.ENROLMENTS}": settings.limits.max_archive_bytes}
    app.add_middleware(BodyLimit, max_bytes=settings.limits.max_body_bytes, archives=archives)
    app.add_middleware(SameOrigin, local_names=LOCAL_NAMES if _is_open(settings) else None)
    app.add_middleware(RequestId)
    app.add_middleware(RequestMetrics)
    return app


def _to_documentation() -> RedirectResponse:
    """Where somebody looks who opens the address in a browser."""
    return RedirectResponse("/docs")


def _is_open(settings: Settings) -> bool:
    """Whether everybody on this machine is answered, any page in a browser included, so that names must be checked."""
    return settings.server.on_loopback and not settings.server.keys_required


def from_environment() -> ASGIApp:
    """What uvicorn runs in each worker."""
    return StartupFailureMessage(create_app(load_settings()))


@contextlib.asynccontextmanager
async def open_registry(settings: Settings) -> AsyncIterator[Registry]:
    """Everything that the routes need, ready to serve.

    Raises:
        StartupError: something is not as it must be; the words say what.
    """
    async with contextlib.AsyncExitStack() as stack:
        # The models load while the database starts: each takes about a second.
        bundles = await asyncio.to_thread(_read_bundles, settings.embedder.bundles)
        manifests = [bundle.manifest for bundle in bundles.values()]
        loading = asyncio.create_task(asyncio.to_thread(build_engine, settings, manifests))
        try:
            owner, database = await _open_databases(settings, stack)
            engine = await loading
        finally:
            loading.cancel()
        crop_cipher = open_crop_cipher(settings)
        await _prepare_gallery(settings, database, manifests, crop_cipher is not None)
        await engine.start()
        stack.push_async_callback(engine.stop)
        trail = open_audit_trail(settings)
        reads = ReadAuditBuffer(database, trail)
        writing = asyncio.create_task(read_audit.run())
        stack.push_async_callback(_last_reads, read_audit)
        stack.push_async_callback(_cancel, writing)
        precision = settings.inference.precision
        recognition = settings.recognition
        policies = _policies(manifests, precision, recognition.fmr)
        yield Registry(
            database=database,
            owner=owner,
            engine=engine,
            resolver=DecisionResolver(policies, GallerySizes(), recognition.duplicate_fpir),
            bundles=bundles,
            gate=QualityGate(
                recognition.min_face_px,
                recognition.min_sharpness,
                recognition.max_asymmetry,
                recognition.min_brightness,
                recognition.max_brightness,
                recognition.min_quality,
            ),
            enrolment_locks=EnrolmentLocks(),
            precision=precision,
            release=schema.this_release(),
            trail=trail,
            crop_cipher=crop_cipher,
            read_audit=read_audit,
            queue=Queue(database.url),
            uploads=Uploads(settings.uploads_folder),
            import_root=settings.jobs.import_root,
            rates=Rates(settings.server.rate_limit),
            keys=KeyRing(database),
            keys_required=settings.server.keys_required,
            classifier=_classes(settings, manifests),
        )


async def _open_databases(settings: Settings, stack: contextlib.AsyncExitStack) -> tuple[Database, Database]:
    """The database as its owner sees it, for indexes, and as the service does, behind the second wall; migrated."""
    server = database_url(settings.owner_url, settings.postgres_folder)
    owner_url = await asyncio.to_thread(server.__enter__)
    stack.push_async_callback(asyncio.to_thread, server.__exit__, None, None, None)
    owner = Database(owner_url, pool_size=2)
    stack.push_async_callback(owner.close)
    try:
        if settings.migrates_on_start:
            await asyncio.to_thread(schema.upgrade, owner_url, "head", settings.app_password)
        database = await _behind_the_wall(settings, owner)
    except (DatabaseUnavailable, OperationalError) as error:
        raise StartupError(f"The database can't be reached: {error.__cause__ or error}") from error
    stack.push_async_callback(database.close)
    return owner, database


async def _behind_the_wall(settings: Settings, owner: Database) -> Database:
    """The account of `database.url` where another one owns the tables, else the rights of the service's account."""
    size = settings.database.pool_size, settings.database.pool_timeout_s
    if settings.database.owner_url is not None:
        return Database(settings.database_url or owner.url, *size)
    async with owner.transaction() as connection:
        has_role = await row_security.exists(connection)
    if not has_role:
        return Database(owner.url, *size)
    if settings.database_url is None:
        return Database(row_security.app_role_url(owner.url), *size)
    return Database(owner.url, *size, role=row_security.APP_ROLE)


def _classes(settings: Settings, manifests: Sequence[EmbedderManifest]) -> Classes | None:
    """Raises StartupError: the classifier is not as it must be, or stands on an embedder that is not loaded."""
    folder = settings.classifier.bundle
    if folder is None:
        return None
    classifier = Classifier(folder)
    wanted = classifier.manifest
    for manifest in manifests:
        if embedding_fingerprint(manifest) == wanted.embedder_fingerprint and manifest.model_id == wanted.embedder:
            return Classes(classifier, settings.classifier.allowed_url_hosts, settings.limits.max_image_bytes)
    raise StartupError(
        f"{folder} was fitted on the embedder {wanted.embedder!r}, which is not loaded: name its bundle with "
        "REGISTRY_EMBEDDER__BUNDLE or REGISTRY_EMBEDDER__ADDITIONAL_BUNDLES"
    )


def _read_bundles(folders: Sequence[Path]) -> dict[str, LoadedBundle]:
    """Raises StartupError: one is not as it must be, or two go by one id."""
    bundles: dict[str, LoadedBundle] = {}
    for folder in folders:
        manifest = read_embedder(folder)
        if manifest.model_id in bundles:
            raise StartupError(f"{folder} goes by the same model id {manifest.model_id!r} as another bundle")
        bundles[manifest.model_id] = LoadedBundle(folder, manifest)
    return bundles


def _policies(manifests: Sequence[EmbedderManifest], precision: Precision, fmr: float) -> dict[str, DecisionPolicy]:
    policies = {}
    for manifest in manifests:
        policy = DecisionPolicy(manifest.calibration, precision, OperatingPoint("fmr", fmr))
        if (problem := policy.default_problem()) is not None:
            words = "requests about model %s must say what they are decided by, since the default can't be kept: %s"
            log.warning(words, manifest.model_id, problem)
        elif (most := policy.most_templates) is not None and most < FEW_TEMPLATES:
            words = (
                "model %s is not calibrated far enough for the default FMR of %g and people of more than %d templates"
            )
            log.warning(words, manifest.model_id, fmr, most)
        policies[manifest.model_id] = policy
    return policies


async def _prepare_gallery(
    settings: Settings, database: Database, manifests: Sequence[EmbedderManifest], has_crop_cipher: bool
) -> None:
    """Migrate where asked to, then check what this release relies on, once, before the first request."""
    try:
        release = schema.this_release()
        async with database.transaction() as connection:
            if problem := await schema.schema_problem(connection, release):
                raise StartupError(f"The database is not ready: {problem}")
            if settings.server.keys_required and not await api_keys.any_valid(connection):
                log.warning("every request will be refused, since there is no API key: `python -m service keys create`")
            if not has_crop_cipher and await gallery_collections.keeps_crops(connection):
                log.warning("collections ask for crops, and none is kept: set crops.key")
            if not await row_security.row_security_applies(connection):
                log.warning("no second wall: the account sees every collection's rows (docs/operations.md, Accounts)")
            await schema.require_pgvector(connection)
            for one in manifests:
                fingerprint = embedding_fingerprint(one)
                await gallery_collections.add_model(connection, one.model_id, one.embedding_dim, fingerprint)
            try:
                await gallery_collections.get(connection, gallery_collections.DEFAULT)
            except CollectionNotFound:
                await gallery_collections.create(connection, gallery_collections.DEFAULT, manifests[0].model_id)
    except (DatabaseUnavailable, OperationalError) as error:
        raise StartupError(f"The database can't be reached: {error.__cause__}") from error


async def work_on_jobs(settings: Settings, alive: Path | None = None) -> None:
    """What `python -m service jobs` does: no port, jobs only, until it is told to stop. `alive`: see `_tell_alive`."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told.set)
    async with open_registry(settings) as registry:
        running = asyncio.create_task(run_jobs(settings, registry))
        telling = asyncio.create_task(_tell_alive(registry, alive))
        stopping = asyncio.create_task(told.wait())
        await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
        for task in (telling, stopping, running):
            await _cancel(task)


async def _tell_alive(registry: Registry, file: Path | None) -> None:
    """Touch a file as long as the database answers, for those who look whether a process without a port is well."""
    while file is not None:
        with contextlib.suppress(DatabaseUnavailable):
            async with registry.database.transaction() as connection:
                await connection.execute(text("SELECT 1"))
            await asyncio.to_thread(file.touch)
        await asyncio.sleep(ALIVE_EVERY_S)


async def run_jobs(settings: Settings, registry: Registry) -> None:
    """Work on jobs until cancelled, beside the requests or in a process of its own."""

    def open_source(job: Job) -> PictureSource:
        if "folder" in job.request:
            return Folder(Path(job.request["folder"]))
        return Archive(registry.uploads.path(job.id))

    async def keep_house() -> None:
        await queue.put_maintenance()

    enrolment = BulkEnrolment(
        registry.database,
        registry.enroller(registry.engine),
        open_source,
        registry.uploads.drop,
        settings.limits.max_image_bytes,
        settings.jobs.parallel,
    )
    house = Maintenance(
        registry.database,
        registry.owner,
        registry.queue,
        registry.uploads,
        registry.trail,
        settings.database.hnsw_min_identities,
        settings.database.hnsw_memory_mb,
        settings.jobs.keep_days,
    )
    embedding = Reembedding(registry.database, registry.engine, registry.crop_cipher, keep_house, settings.jobs.parallel)
    kinds: dict[str, JobKind] = {bulk_enrolment.KIND: enrolment, reembedding.KIND: embedding}
    tasks = Jobs(registry.database, registry.queue, kinds)
    work: dict[str, Work] = {PREPARE: tasks.prepare, BATCH: tasks.portion, MAINTAIN: house}
    has = [model_need(model_id) for model_id in registry.bundles]
    try:
        has.append(registry.uploads.name)
    except StorageFull as error:
        log.warning("archives can't be kept, and no job with one is worked on: %s (jobs.uploads)", error.detail)
    queue = Queue(registry.database.url, has, work, tasks.retries_exhausted)
    await runner.run(queue, settings.database.maintenance_interval_s, house.sweep)


async def _last_reads(read_audit: ReadAuditBuffer) -> None:
    """What was noted since the last time."""
    with contextlib.suppress(DatabaseUnavailable):
        await read_audit.flush()


async def _cancel(task: "asyncio.Task[Any]") -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
