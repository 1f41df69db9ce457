"""Which engine a process gets: the models in the process itself, or workers elsewhere."""

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from service.errors import StartupError
from service.inference.bundle import EmbedderManifest, embedding_fingerprint
from service.inference.engine import HostedEngine
from service.inference.wire import VERSION
from service.runtime.settings import Settings

if TYPE_CHECKING:
    from service.inference.local import LocalEngine

MOST_THREADS = 8
"""Past this a single picture gains nothing from more cores."""


def build_engine(settings: Settings, manifests: Sequence[EmbedderManifest]) -> HostedEngine:
    """The engine that the settings ask for, not yet started; `manifests` of its models. Raises StartupError."""
    if settings.inference.urls:
        return build_remote(settings, manifests)
    return build_local(settings, settings.server.workers)


def build_local(settings: Settings, processes: int = 1) -> "LocalEngine":
    """Load the models; `processes` of this kind share the machine's cores. Raises StartupError."""
    try:
        from service.inference.detector import YoloFaceDetector
        from service.inference.embedder import FaceEmbedder
        from service.inference.graph import RuntimeOptions
        from service.inference.local import LocalEngine
        from service.vision.image import ImageLimits
    except ImportError as error:
        raise StartupError(
            f"Models can't be run here ({error}). Either `pip install 'identity-registry[inference]'`, or name a "
            "worker with REGISTRY_INFERENCE__WORKER_URL."
        ) from None
    inference = settings.inference
    threads = inference.threads or max(1, min((os.cpu_count() or 1) // processes, MOST_THREADS))
    options = RuntimeOptions(inference.backend, inference.precision, threads, inference.device)
    wanted = settings.detector
    detector = YoloFaceDetector(
        wanted.bundle,
        replace(options, precision=wanted.precision),
        wanted.image_size,
        wanted.min_score,
        wanted.tiling,
    )
    embedders = [FaceEmbedder(bundle, options) for bundle in settings.embedder.bundles]
    limits = ImageLimits(settings.limits.max_image_bytes, settings.limits.max_image_pixels)
    return LocalEngine(detector, embedders, limits, inference.max_batch, inference.max_queued)


def build_remote(settings: Settings, manifests: Sequence[EmbedderManifest]) -> HostedEngine:
    """An engine that asks workers."""
    from service.inference.remote import RemoteEngine

    inference = settings.inference
    return RemoteEngine(
        {manifest.model_id: manifest.embedding_dim for manifest in manifests},
        models_key(settings, manifests),
        inference.urls,
        inference.token,
        inference.worker_timeout_s,
    )


def models_key(settings: Settings, manifests: Sequence[EmbedderManifest]) -> str:
    """What API and worker must agree on: how they write, and what each model's scores and thresholds depend on."""
    models = (f"{one.model_id}/{settings.inference.precision}/{embedding_fingerprint(one)}" for one in manifests)
    return ",".join([VERSION, *models])
