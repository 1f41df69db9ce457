"""Composition root of the job runner, which runs in the API's process or in a separate process."""

import asyncio
import logging
import signal
from pathlib import Path

from service.api.state import AppState
from service.background_tasks import cancel
from service.errors import StorageFull
from service.gallery.jobs.records import Job
from service.inference.bundle import open_cohort
from service.jobs import bulk_enrolment, embedding_enrolment, grouping, reembedding, runner
from service.jobs.batches import JobKind, Jobs, model_need
from service.jobs.bulk_enrolment import BulkEnrolment
from service.jobs.cohort_models import CohortModel
from service.jobs.deliveries import Deliveries
from service.jobs.embedding_enrolment import EmbeddingEnrolment
from service.jobs.grouping import Grouping
from service.jobs.maintenance import Maintenance
from service.jobs.queue import BATCH, DELIVER, MAINTAIN, PREPARE, Queue, Work
from service.jobs.reembedding import Reembedding
from service.jobs.sources.folder import Folder
from service.jobs.sources.pictures import PictureSource
from service.jobs.webhooks import Webhooks
from service.runtime.alive import touch
from service.runtime.parts import open_state
from service.runtime.settings import Settings

log = logging.getLogger(__name__)


async def serve_jobs(settings: Settings, alive: Path | None = None) -> None:
    """Runs jobs without an HTTP port until SIGINT or SIGTERM.

    Args:
        alive: file that is touched every five seconds while the database responds, for health checks.
    """
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    async with open_state(settings) as state:
        running = asyncio.create_task(run_jobs(settings, state))
        touching = asyncio.create_task(touch(state.database, alive))
        stopping = asyncio.create_task(stopped.wait())
        watched = {running, stopping} if alive is None else {running, stopping, touching}
        await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
        for task in (stopping, touching, running):
            await cancel(task)


async def run_jobs(settings: Settings, state: AppState) -> None:
    """Runs jobs until the task is cancelled."""

    def open_source(job: Job) -> PictureSource:
        if "folder" in job.request:
            return Folder(Path(job.request["folder"]), settings.jobs.max_archive_entries)
        return state.uploads.open(job.id, job.request.get("encoding"))

    async def enqueue_maintenance() -> None:
        await queue.enqueue_maintenance()

    async def maintain() -> None:
        await maintenance()
        await hooks.maintain()

    async def maintain_locally() -> None:
        await deliveries.remove_ended()
        await maintenance.sweep()

    enrolment = BulkEnrolment(
        state.database,
        state.enroller(state.engine),
        open_source,
        state.uploads.drop,
        settings.limits.max_image_bytes,
        settings.jobs.max_archive_entries,
        settings.jobs.parallel,
    )
    maintenance = Maintenance(
        state.database,
        state.queue,
        state.uploads,
        state.audit_trail,
        settings.jobs.keep_days,
    )
    embedding = Reembedding(
        state.database,
        state.engine,
        state.crop_cipher,
        enqueue_maintenance,
        await asyncio.to_thread(_cohort_models, state),
        settings.jobs.parallel,
    )
    hooks = Webhooks(state.database, state.queue, state.webhook_signer, state.webhook_limits)
    kinds: dict[str, JobKind] = {
        bulk_enrolment.KIND: enrolment,
        reembedding.KIND: embedding,
        embedding_enrolment.KIND: EmbeddingEnrolment(enrolment, state.uploads.open_embeddings),
        grouping.KIND: Grouping(enrolment, settings.jobs.max_grouped_identities),
    }
    deliveries = Deliveries(state.database)
    tasks = Jobs(state.database, state.queue, kinds, deliveries)
    work: dict[str, Work] = {PREPARE: tasks.prepare, BATCH: tasks.batch, MAINTAIN: maintain, DELIVER: hooks.deliver}
    capabilities = [model_need(model_id) for model_id in state.bundles]
    try:
        capabilities.append(state.uploads.name)
    except StorageFull as error:
        log.warning("the folder of uploads is unusable, so jobs with an archive do not run (jobs.uploads): %s", error)
    queue = Queue(state.database.url, capabilities, work)
    interval_s = settings.database.maintenance_interval_s
    await runner.run(queue, interval_s, maintain_locally, hooks.dispatch)


def _cohort_models(state: AppState) -> dict[str, CohortModel]:
    """Reads the cohorts of the models that correct the embeddings of another model. Raises StartupError."""
    models = {}
    for model_id, bundle in state.bundles.items():
        uncorrected = bundle.manifest.uncorrected
        cohort = open_cohort(bundle.folder, bundle.manifest)
        if uncorrected is not None and cohort is not None:
            models[model_id] = CohortModel(cohort, uncorrected.model_id)
    return models
