"""Trains, packs and measures every encoder of a benchmark; what is finished is not done again."""

import hashlib
import math
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from service.inference.bundle import file_sha256, read_embedder
from service.inference.embedder import FaceEmbedder
from service.inference.graph import RuntimeOptions, open_graph
from trainer.configuration import ConfigError
from trainer.embedder import export, training
from trainer.embedder.canvases import CanvasSet
from trainer.embedder.config import EmbedderConfig
from trainer.embedder.scores import all_pairs, top_k_rate
from trainer.sweep.config import RunConfig, SweepConfig
from trainer.sweep.gallery import Gallery
from trainer.sweep.result import RunResult

FMR = 1e-3
CALLS = 30


def run_all(
    sweep: SweepConfig,
    canvases: CanvasSet,
    gallery: Gallery,
    provenance: dict[str, Any],
    output: Path,
    teacher: Path | None,
    cache: Path,
    device: str,
) -> Iterator[RunResult]:
    """The result of each run, as soon as it is there. A run that was cut off goes on from its last epoch."""
    for run, config in sweep.configurations().items():
        folder = output / run.name
        result, recipe = RunResult.read(folder), _recipe(config, canvases, teacher)
        if result is not None and result.recipe != recipe:
            raise ConfigError(f"{folder} holds a run of another recipe, pictures or teacher: name another --output")
        if result is None:
            started = time.monotonic()
            best = training.train(config, canvases, teacher, cache, folder / "run", device=device)
            minutes = (time.monotonic() - started) / 60
            export.export(best, folder / "bundle", run.name, provenance)
            result = _measure(run, sweep, gallery, folder / "bundle", recipe, minutes)
        elif (result.gallery, result.top_k) != (sweep.gallery, sweep.top_k):
            result = _measure(run, sweep, gallery, folder / "bundle", recipe, result.minutes)
        result.write(folder)
        yield result


def _recipe(config: EmbedderConfig, canvases: CanvasSet, teacher: Path | None) -> str:
    told = f"{config.model_dump_json()} {canvases.key} {'' if teacher is None else file_sha256(teacher)}"
    return hashlib.sha256(told.encode()).hexdigest()


def _measure(
    run: RunConfig, sweep: SweepConfig, gallery: Gallery, bundle: Path, recipe: str, minutes: float
) -> RunResult:
    embedder = FaceEmbedder(bundle, RuntimeOptions())
    embeddings = gallery.embed(embedder)
    pairs = all_pairs(embeddings, gallery.names)
    fmr = pairs.told(FMR)
    return RunResult(
        name=run.name,
        recipe=recipe,
        backbone=run.backbone,
        embedding_dim=run.embedding_dim,
        tar=pairs.true_accept_rate(pairs.threshold_at(fmr)),
        fmr=fmr,
        rank_1=top_k_rate(embeddings, gallery.names, 1),
        top_k=sweep.top_k,
        top_k_rate=top_k_rate(embeddings, gallery.names, sweep.top_k),
        gallery=sweep.gallery,
        people=len(set(gallery.names)),
        pictures=len(gallery.names),
        million_parameters=parameters(bundle / embedder.manifest.graph) / 1e6,
        megabytes=(bundle / embedder.manifest.graph).stat().st_size / 1e6,
        latency_ms=latency_ms(bundle, sweep.threads),
        minutes=minutes,
    )


def parameters(graph: Path) -> int:
    """Numbers that an ONNX file has learned."""
    import onnx

    return sum(math.prod(tensor.dims) for tensor in onnx.load(str(graph)).graph.initializer)


def latency_ms(bundle: Path, threads: int) -> float:
    """Median of one crop at a time."""
    manifest = read_embedder(bundle)
    graph = open_graph(bundle / manifest.graph, manifest.input_size, RuntimeOptions(threads=threads), manifest.channels)
    crop = np.zeros((1, manifest.channels, manifest.input_size, manifest.input_size), np.float32)
    seconds = []
    for _ in range(CALLS):
        started = time.perf_counter()
        graph.run(crop)
        seconds.append(time.perf_counter() - started)
    return 1000 * statistics.median(seconds)
