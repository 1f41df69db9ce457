"""Opens and closes the long-lived parts of an API or job process."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from service.api.http.rate_limits import KeyRateLimiter
from service.api.state import AppState
from service.background_tasks import BackgroundTasks
from service.errors import DatabaseUnavailable, StartupError
from service.gallery.access.keyring import KeyRing
from service.gallery.index.memory_indexes import MemoryIndexes
from service.gallery.search.search import GallerySizes, RecentCollections
from service.gallery.storage import schema
from service.inference.bundle import read_embedder
from service.inference.calibration import Precision
from service.inference.classifier import Classifier
from service.inference.engine import HostedEngine
from service.inference.manifest import EmbedderManifest
from service.jobs.queue import Queue
from service.jobs.uploads import UploadLimits, Uploads
from service.jobs.webhooks import WebhookLimits
from service.recognition.candidates import ResponseLimits
from service.recognition.decision import DecisionPolicy, DecisionResolver
from service.recognition.gallery_comparison import GalleryComparer
from service.recognition.models import LoadedBundle
from service.recognition.operating_point import OperatingPoint
from service.recognition.policies import QualityLimits, QualityMode
from service.recognition.policy_checks import default_problem, most_templates
from service.recognition.prediction import ClassifierSetup
from service.recognition.read_audit import ReadAuditBuffer
from service.runtime.databases import open_databases, prepare_gallery
from service.runtime.engines import build_engine
from service.runtime.secret_keys import open_audit_trail, open_crop_cipher
from service.runtime.settings import Settings
from service.runtime.use_case_sections import RecognitionSettings, WebhookSettings

MAX_TEMPLATES_OF_A_REQUEST = 32
"""Maximum number of pictures of one POST /register."""
log = logging.getLogger(__name__)


@contextlib.asynccontextmanager
async def open_state(settings: Settings) -> AsyncIterator[AppState]:
    """Opens everything that the routes and jobs need, and closes it at the end of the block.

    Raises:
        StartupError: a bundle, the database, a key or the classifier cannot be used.
    """
    async with contextlib.AsyncExitStack() as stack:
        bundles = await asyncio.to_thread(_read_bundles, settings.embedder.bundles)
        manifests = [bundle.manifest for bundle in bundles.values()]
        # The models load while the database starts; each takes about a second.
        loading = asyncio.create_task(asyncio.to_thread(build_engine, settings, manifests))
        try:
            owner, database, reserved = await open_databases(settings, stack)
            engine: HostedEngine = await loading
        finally:
            loading.cancel()
        crop_cipher = open_crop_cipher(settings)
        await prepare_gallery(settings, database, manifests, crop_cipher is not None)
        await engine.start()
        stack.push_async_callback(engine.stop)
        audit_trail = open_audit_trail(settings)
        read_audit = ReadAuditBuffer(database, audit_trail)
        indexes = MemoryIndexes(database, settings.search_memory_bytes)
        stack.push_async_callback(_flush, read_audit)
        background = BackgroundTasks()
        stack.push_async_callback(background.stop)
        background.start(read_audit.run(), "audit of read operations")
        background.start(indexes.run(), "indexes in memory")
        precision = settings.inference.precision
        policies = _policies(manifests, precision, settings.recognition.fmr)
        resolver = DecisionResolver(policies, settings.recognition.duplicate_fpir, settings.recognition.fpir)
        compared = settings.limits.max_compared_templates
        yield AppState(
            database=database,
            owner=owner,
            engine=engine,
            resolver=resolver,
            sizes=GallerySizes(indexes),
            indexes=indexes,
            recent=RecentCollections(),
            bundles=bundles,
            limits=quality_limits(settings.recognition),
            precision=precision,
            release=schema.this_release(),
            audit_trail=audit_trail,
            crop_cipher=crop_cipher,
            read_audit=read_audit,
            queue=Queue(database.url),
            uploads=_uploads(settings),
            import_root=settings.jobs.import_root,
            rate_limiter=KeyRateLimiter(settings.server.rate_limit, settings.limits.max_concurrent_requests_per_key),
            background=background,
            reserved=reserved,
            keys=KeyRing(reserved),
            keys_required=settings.server.keys_required,
            max_templates=settings.recognition.max_templates,
            grouping_fmr=settings.recognition.grouping_fmr,
            webhook_limits=_webhook_limits(settings.webhooks),
            max_webhooks=settings.webhooks.max_per_collection,
            gallery_comparer=GalleryComparer(database, resolver, compared, read_audit),
            response_limits=ResponseLimits(settings.limits.max_candidates, settings.limits.max_response_bytes),
            classifier=_classifier(settings, manifests),
        )


async def _flush(read_audit: ReadAuditBuffer) -> None:
    with contextlib.suppress(DatabaseUnavailable):
        await read_audit.flush()


def _webhook_limits(settings: WebhookSettings) -> WebhookLimits:
    return WebhookLimits(settings.allowed_hosts, settings.timeout_s, settings.max_attempts, settings.keep_days)


def _uploads(settings: Settings) -> Uploads:
    limits = UploadLimits(
        settings.jobs.max_upload_bytes_total,
        settings.jobs.min_free_disk_bytes,
        settings.jobs.upload_timeout_s,
        settings.jobs.max_archive_entries,
    )
    return Uploads(settings.uploads_folder, limits)


def _read_bundles(folders: Sequence[Path]) -> dict[str, LoadedBundle]:
    """Reads the manifests. Raises StartupError if a bundle is invalid or two bundles have the same model id."""
    bundles: dict[str, LoadedBundle] = {}
    models = [(folder, manifest) for folder in folders for manifest in read_embedder(folder).models]
    for folder, manifest in models:
        if manifest.model_id in bundles:
            raise StartupError(
                f"{folder} and {bundles[manifest.model_id].folder} have the same model id {manifest.model_id!r}; "
                "configure one of them"
            )
        bundles[manifest.model_id] = LoadedBundle(folder, manifest)
    return bundles


def _classifier(settings: Settings, manifests: Sequence[EmbedderManifest]) -> ClassifierSetup | None:
    """Loads the classifier. Raises StartupError if it is invalid or its embedder is not loaded."""
    folder = settings.classifier.bundle
    if folder is None:
        return None
    classifier = Classifier(folder)
    if not any(map(classifier.manifest.fits, manifests)):
        raise StartupError(
            f"{folder} needs the embedder {classifier.manifest.embedder!r}, which is not loaded; add its bundle to "
            "embedder.bundle or embedder.additional_bundles"
        )
    return ClassifierSetup(classifier, settings.classifier.allowed_url_hosts, settings.limits.max_image_bytes)


def quality_limits(recognition: RecognitionSettings) -> dict[QualityMode, QualityLimits | None]:
    standard = QualityLimits(
        recognition.min_face_px,
        recognition.min_sharpness,
        recognition.max_asymmetry,
        recognition.min_brightness,
        recognition.max_brightness,
        recognition.min_visible,
        recognition.min_quality,
    )
    return {mode: standard.for_mode(mode) for mode in QualityMode}


def _policies(manifests: Sequence[EmbedderManifest], precision: Precision, fmr: float) -> dict[str, DecisionPolicy]:
    policies = {}
    for manifest in manifests:
        policy = DecisionPolicy(manifest.calibration_for(precision), precision, OperatingPoint("fmr", fmr))
        if (problem := default_problem(policy)) is not None:
            log.warning(
                "requests for the model %s must name a rate or a threshold, because the default is not calibrated: %s",
                manifest.model_id,
                problem,
            )
        elif (maximum := most_templates(policy)) is not None and maximum < MAX_TEMPLATES_OF_A_REQUEST:
            log.warning(
                "the model %s is not calibrated for the default FMR of %g with identities of more than %d templates",
                manifest.model_id,
                fmr,
                maximum,
            )
        policies[manifest.model_id] = policy
    return policies
