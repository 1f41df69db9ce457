"""Builds the engine of a process: the models in the process itself, or a client of the workers."""

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from service.errors import StartupError
from service.inference.bundle import equivalent_fingerprints
from service.inference.engine import HostedEngine
from service.inference.manifest import EmbedderManifest
from service.inference.wire import VERSION
from service.runtime.settings import Settings

if TYPE_CHECKING:
    from service.inference.local import LocalEngine
    from service.inference.pipeline import FacePipeline

log = logging.getLogger(__name__)
MAX_THREADS = 8
"""Maximum number of threads: more of them do not reduce the time of a single picture."""
MAX_DECODERS = 4


def build_engine(settings: Settings, manifests: Sequence[EmbedderManifest]) -> HostedEngine:
    """Returns the engine of the settings, not yet started; `manifests` are those of its models. Raises StartupError."""
    if settings.inference.urls:
        return build_remote(settings, manifests)
    return build_local(settings, settings.server.workers)


def build_local(settings: Settings, processes: int = 1) -> "LocalEngine":
    """Loads the models. The returned engine starts its decoder processes when it is started.

    Args:
        processes: number of processes that share the cores of the machine.

    Raises:
        StartupError: the extra `inference` is not installed, or a bundle is invalid.
    """
    pipeline = build_pipeline(settings, processes)
    from service.inference.decoding.client import DecoderLimits
    from service.inference.decoding.pool import DecoderPool
    from service.inference.local import LocalEngine
    from service.vision.image import ImageLimits

    inference, limits = settings.inference, settings.limits
    image_limits = ImageLimits(limits.max_image_bytes, limits.max_image_pixels)
    decoders = DecoderPool(
        inference.decoders or max(1, min((os.cpu_count() or 1) // processes, MAX_DECODERS)),
        DecoderLimits(image_limits, limits.max_decode_seconds, limits.max_decode_memory_mb * 1024**2),
    )
    return LocalEngine(pipeline, decoders, inference.max_batch, inference.max_queued)


def build_pipeline(settings: Settings, processes: int = 1) -> "FacePipeline":
    """Loads the models like `build_local`, without an engine around them."""
    try:
        from service.inference.detector import YoloFaceDetector
        from service.inference.embedder import FaceEmbedder
        from service.inference.graph import RuntimeOptions
        from service.inference.pipeline import MIN_LONGER_SIDE, FacePipeline
        from service.vision.instructions import has_avx2
    except ImportError as error:
        raise StartupError(
            f"the packages that run models are not installed ({error}); run `pip install '.[inference]'` in the "
            "repository, or set REGISTRY_INFERENCE__WORKER_URL to the URL of a worker"
        ) from None
    if not has_avx2():
        log.warning("the processor has no AVX2 instructions: models and searches take several times as long")
    inference = settings.inference
    threads = inference.threads or max(1, min((os.cpu_count() or 1) // processes, MAX_THREADS))
    options = RuntimeOptions(inference.backend, inference.precision, threads, inference.device)
    chosen = settings.detector
    detector = YoloFaceDetector(
        chosen.bundle,
        replace(options, precision=chosen.precision),
        chosen.image_size,
        chosen.min_score,
        chosen.tiling,
    )
    embedders = []
    for bundle in settings.embedder.bundles:
        embedder = FaceEmbedder(bundle, options)
        embedders += [item for item in (embedder, embedder.uncorrected()) if item is not None]
    # Tiles show large pictures at their full resolution.
    min_longer_side = None if chosen.tiling else max(MIN_LONGER_SIDE, 2 * (chosen.image_size or 0))
    return FacePipeline(detector, embedders, settings.limits.max_faces, min_longer_side)


def build_remote(settings: Settings, manifests: Sequence[EmbedderManifest]) -> HostedEngine:
    """Returns an engine that sends pictures to workers."""
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
    """Returns the key by which API and worker check that they run the same protocol, models and precision."""
    precision = settings.inference.precision
    models = (f"{item.model_id}/{precision}/{equivalent_fingerprints(item)[0]}" for item in manifests)
    return ",".join([VERSION, *models])
