"""`python -m tools.bench_detector`: compares accuracy and time of input sizes, precisions and runtimes of the detector.

All rows are measured on the same pictures in one run, alternating per picture, so that other load on the machine
affects all of them alike. Milliseconds are medians of a whole detection: scale and letterbox the picture, run the
graph, decode boxes, suppress overlaps, refine landmarks and verify faces.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import typer
from rich.progress import track

from service.inference.detector import ENLARGEABLE, YoloFaceDetector
from service.inference.engine import FaceFinder
from service.inference.graph import RuntimeOptions, open_graph
from service.inference.landmarks import LandmarkRefiner
from service.runtime.settings import BUNDLES
from service.vision.geometry import letterbox
from service.vision.image import ImageLimits, decode
from tools.scrfd import Scrfd
from trainer.archives import unpack
from trainer.detector.evaluation import LabelledPicture, PictureDetections, detection_metrics, labelled_pictures
from trainer.finders import YuNet
from trainer.tables import table

LOWEST_SCORE = 0.02
RUNTIMES = (("openvino", "f32"), ("openvino", "bf16"), ("onnxruntime", "f32"))
SIZES: tuple[int | None, ...] = (320, 480, 640, None)


def main(
    data: Annotated[
        list[Path], typer.Option(help="Folder or zip archive of a data set in Ultralytics' pose format; repeatable.")
    ],
    split: Annotated[
        str, typer.Option(help="Split to measure on. A split that selects settings must not be reported on.")
    ] = "val",
    int8: Annotated[Path | None, typer.Option(help="8-bit bundle, from `identity-trainer detector quantise`.")] = None,
    yunet: Annotated[Path | None, typer.Option(help="ONNX file of YuNet.")] = None,
    scrfd: Annotated[Path | None, typer.Option(help="ONNX file of SCRFD (scrfd_2.5g_bnkps).")] = None,
    timed: Annotated[int, typer.Option(min=5, help="Number of pictures that are timed.")] = 60,
    work: Annotated[Path, typer.Option(help="Folder for extracted archives.")] = Path("runs/data/detection"),
) -> None:
    """Print AP50 and milliseconds by input size, precision, runtime and threads, and of YuNet, SCRFD and each step."""
    cv2.setNumThreads(1)
    pictures = list(labelled_pictures(unpack(data, work), split))
    sample = pictures[:: max(1, len(pictures) // timed)]
    one_thread, two_threads = _shipped(1, int8), _shipped(2, int8)
    peers: dict[str, FaceFinder] = {}
    if yunet is not None:
        peers["YuNet, size of each picture"] = YuNet(yunet, LOWEST_SCORE)
    if scrfd is not None:
        peers["SCRFD-2.5G at 640 px"] = Scrfd(scrfd, min_score=LOWEST_SCORE)
    slow, fast = _median_ms(one_thread, sample), _median_ms(two_threads | peers, sample)
    rows = [
        (name, f"{_ap50(detector, pictures):.3f}", f"{slow[name]:.1f}" if name in slow else "", f"{fast[name]:.1f}")
        for name, detector in track((two_threads | peers).items(), description="accuracy")
    ]
    typer.echo(table(("detector", f"AP50 {split}", "ms, one thread", "ms, two threads"), rows))
    typer.echo("")
    typer.echo(_time_by_step(sample))


def _shipped(threads: int, int8: Path | None) -> dict[str, FaceFinder]:
    """Opens the shipped bundle, and the 8-bit bundle if it is set, with every runtime and size."""
    variants = [(BUNDLES / "detector", backend, precision, precision) for backend, precision in RUNTIMES]
    if int8 is not None:
        variants.append((int8, "openvino", "f32", "int8"))
    detectors: dict[str, FaceFinder] = {}
    for bundle, backend, precision, shown in variants:
        options = RuntimeOptions(backend, precision, threads)  # type: ignore[arg-type]
        for size in SIZES:
            name = f"shipped, {backend} {shown}, " + (f"{size} px" if size else "size by picture")
            detectors[name] = YoloFaceDetector(bundle, options, size, LOWEST_SCORE)
    return detectors


def _median_ms(detectors: dict[str, FaceFinder], sample: list[LabelledPicture]) -> dict[str, float]:
    seconds: dict[str, list[float]] = {name: [] for name in detectors}
    for picture in track(sample, description="timing"):
        for name, detector in detectors.items():
            seconds[name].append(_seconds(detector.detect, [picture.pixels]))
    return {name: 1000 * statistics.median(times) for name, times in seconds.items()}


def _ap50(detector: FaceFinder, pictures: list[LabelledPicture]) -> float:
    results = [
        PictureDetections(picture.path, picture.boxes, detector.detect([picture.pixels])[0]) for picture in pictures
    ]
    return detection_metrics(results).ap50


def _time_by_step(sample: list[LabelledPicture]) -> str:
    """Measures decoding, letterboxing, the graph, landmark refinement, and the remaining steps of a detection."""
    steps: dict[str, list[float]] = {
        "decode": [],
        "letterbox": [],
        "graph": [],
        "input tensor, boxes, NMS": [],
        "landmark refinement, face verification": [],
    }
    options, bundle = RuntimeOptions("openvino", "bf16", 2), BUNDLES / "detector"
    detector = YoloFaceDetector(bundle, options, min_score=None)
    sizes, stage = detector.manifest.input_sizes, detector.manifest.landmark_stage
    assert stage is not None
    refiner = LandmarkRefiner(bundle, stage, options)
    graphs = {size: open_graph(bundle / detector.manifest.graph, size, options) for size in sizes}
    for picture in track(sample, description="timing the steps"):
        size = next((size for size in sizes if max(picture.pixels.shape) <= size * ENLARGEABLE), sizes[-1])
        tensor = np.random.default_rng(0).random((1, 3, size, size), np.float32)
        letterboxing = _seconds(letterbox, picture.pixels, size)
        graph = _seconds(graphs[size].run, tensor)
        total = _seconds(detector.detect, [picture.pixels])
        refinement = _seconds(refiner.refine, [picture.pixels], detector.detect([picture.pixels]))
        remaining = max(total - letterboxing - graph - refinement, 0.0)
        decoding = _seconds(decode, picture.path.read_bytes(), ImageLimits())
        for times, seconds in zip(steps.values(), (decoding, letterboxing, graph, remaining, refinement), strict=True):
            times.append(seconds)
    medians = {name: 1000 * statistics.median(times) for name, times in steps.items()}
    total = sum(medians.values())
    return table(("step", "ms", "share"), [(name, f"{ms:.2f}", f"{ms / total:.0%}") for name, ms in medians.items()])


def _seconds(call: Callable[..., object], *arguments: object) -> float:
    started = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - started


if __name__ == "__main__":
    typer.run(main)
