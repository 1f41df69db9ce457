"""Trains, packs and measures every encoder of a sweep; finished runs are reused."""

import math
import shutil
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from service.inference.bundle import read_embedder
from service.inference.embedder import FaceEmbedder
from service.inference.graph import RuntimeOptions, open_graph
from trainer.cache import content_key
from trainer.configuration import ConfigError
from trainer.embedder import export, training
from trainer.embedder.aligned_crops import AlignedCrops
from trainer.embedder.config import EmbedderConfig
from trainer.embedder.scores import all_pairs, balanced_accuracy, top_k_rate
from trainer.embedder.teacher import Teacher
from trainer.sweep.config import RunConfig, SweepConfig
from trainer.sweep.gallery import Gallery
from trainer.sweep.result import RunResult

FMR = 1e-3
CALLS = 30


def run_all(
    sweep: SweepConfig,
    crops: AlignedCrops,
    gallery: Gallery,
    provenance: dict[str, Any],
    output: Path,
    teachers: Sequence[Path],
    cache: Path,
    device: str,
) -> Iterator[RunResult]:
    """Yields the result of each run as soon as it is finished. An interrupted run resumes with its last epoch.

    Raises:
        ConfigError: A folder contains a run with another configuration, other pictures or another teacher.
    """
    for run, config in sweep.configurations().items():
        folder = output / run.name
        result, recipe = RunResult.read(folder), _recipe_key(config, crops, teachers)
        if result is not None and result.recipe != recipe:
            raise ConfigError(
                f"{folder} contains a run with another configuration, other pictures or another teacher; name another "
                "folder with --output"
            )
        if result is None:
            started = time.monotonic()
            best = training.train(config, crops, teachers, cache, folder / "run", device=device)
            minutes = (time.monotonic() - started) / 60
            export.export(best, folder / "bundle", run.name, provenance)
            result = _measure(run, sweep, gallery, folder / "bundle", recipe, minutes)
        elif (result.gallery, result.top_k) != (sweep.gallery, sweep.top_k):
            result = _measure(run, sweep, gallery, folder / "bundle", recipe, result.minutes)
        result.write(folder)
        yield result


def delete_runs(sweep: SweepConfig, output: Path) -> None:
    """Deletes the runs of these encoders; other files of the folder stay."""
    for run in sweep.configurations():
        shutil.rmtree(output / run.name, ignore_errors=True)


def _recipe_key(config: EmbedderConfig, crops: AlignedCrops, teachers: Sequence[Path]) -> str:
    return content_key(config.model_dump_json(), crops.key, *(Teacher.of(path).graph for path in teachers))


def _measure(
    run: RunConfig, sweep: SweepConfig, gallery: Gallery, bundle: Path, recipe: str, minutes: float
) -> RunResult:
    embedder = FaceEmbedder(bundle, RuntimeOptions(device=sweep.evaluation_device))
    embeddings = gallery.embed(embedder)
    pairs = all_pairs(embeddings, gallery.names)
    fmr = pairs.measurable_fmr(FMR)
    return RunResult(
        name=run.name,
        recipe=recipe,
        backbone=run.backbone,
        embedding_dim=run.embedding_dim,
        tar=pairs.true_accept_rate(pairs.threshold_at(fmr)),
        fmr=fmr,
        accuracy=balanced_accuracy(pairs),
        rank_1=top_k_rate(embeddings, gallery.names, 1),
        top_k=sweep.top_k,
        top_k_rate=top_k_rate(embeddings, gallery.names, sweep.top_k),
        gallery=sweep.gallery,
        people=len(set(gallery.names)),
        pictures=len(gallery.names),
        million_parameters=parameters(bundle / embedder.manifest.graph) / 1e6,
        megabytes=(bundle / embedder.manifest.graph).stat().st_size / 1e6,
        latency_ms=latency_ms(bundle, sweep.runtime),
        minutes=minutes,
    )


def parameters(graph: Path) -> int:
    """Returns the number of weights in an ONNX file."""
    import onnx

    return sum(math.prod(tensor.dims) for tensor in onnx.load(str(graph)).graph.initializer)


def latency_ms(bundle: Path, options: RuntimeOptions) -> float:
    """Returns the median time of one crop in milliseconds."""
    manifest = read_embedder(bundle)
    graph = open_graph(bundle / manifest.graph, manifest.input_size, options, manifest.channels)
    crop = np.zeros((1, manifest.channels, manifest.input_size, manifest.input_size), np.float32)
    seconds = []
    for _ in range(CALLS):
        started = time.perf_counter()
        graph.run(crop)
        seconds.append(time.perf_counter() - started)
    return 1000 * statistics.median(seconds)
