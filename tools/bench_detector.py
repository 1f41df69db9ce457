"""`python -m tools.bench_detector`: which input size, precision and runtime finds how much at what cost.

Every row is measured on the same pictures in one run, turn by turn, so that a busy machine disturbs all of them alike.
Milliseconds are medians for a whole detection: scale and pad the picture, run the graph, read and thin out the boxes.
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
from trainer.detector.evaluation import Labelled, Seen, figures, pictures_of
from trainer.detector.finders import YuNet
from trainer.tables import table

LOWEST_SCORE = 0.02
RUNTIMES = (("openvino", "f32"), ("openvino", "bf16"), ("onnxruntime", "f32"))
SIZES: tuple[int | None, ...] = (320, 480, 640, None)


def main(
    data: Annotated[list[Path], typer.Option(help="Folder or zip archive in Ultralytics pose format; repeatable.")],
    split: Annotated[str, typer.Option(help="Split to measure on: choose by this one, don't report on it.")] = "val",
    int8: Annotated[Path | None, typer.Option(help="8-bit bundle: `trainer detector quantise`.")] = None,
    yunet: Annotated[Path | None, typer.Option(help="YuNet's ONNX file.")] = None,
    scrfd: Annotated[Path | None, typer.Option(help="SCRFD's ONNX file (scrfd_2.5g_bnkps).")] = None,
    timed: Annotated[int, typer.Option(min=5, help="Pictures that are timed.")] = 60,
    work: Annotated[Path, typer.Option(help="Where archives are unpacked.")] = Path("runs/data/detection"),
) -> None:
    """AP50 and milliseconds by input size, precision, runtime and threads; where the time goes; peers."""
    cv2.setNumThreads(1)
    pictures = list(pictures_of(unpack(data, work), split))
    sample = pictures[:: max(1, len(pictures) // timed)]
    one, two = _ours(1, int8), _ours(2, int8)
    peers: dict[str, FaceFinder] = {}
    if yunet is not None:
        peers["YuNet, each picture at its size"] = YuNet(yunet, LOWEST_SCORE)
    if scrfd is not None:
        peers["SCRFD-2.5G at 640 px"] = Scrfd(scrfd, min_score=LOWEST_SCORE)
    slow, fast = _medians(one, sample), _medians(two | peers, sample)
    rows = [
        (name, f"{_ap50(finder, pictures):.3f}", f"{slow[name]:.1f}" if name in slow else "", f"{fast[name]:.1f}")
        for name, finder in (two | peers).items()
    ]
    typer.echo(table(("detector", f"AP50 {split}", "ms, one thread", "ms, two threads"), rows))
    typer.echo("")
    typer.echo(_shares(sample))


def _ours(threads: int, int8: Path | None) -> dict[str, FaceFinder]:
    found: dict[str, FaceFinder] = {}
    for backend, precision in RUNTIMES:
        options = RuntimeOptions(backend, precision, threads)  # type: ignore[arg-type]
        for size in SIZES:
            name = f"ours, {backend} {precision}, " + (f"{size} px" if size else "size by picture")
            found[name] = YoloFaceDetector(BUNDLES / "detector", options, size, LOWEST_SCORE)
    if int8 is not None:
        for size in SIZES:
            name = "ours, openvino int8, " + (f"{size} px" if size else "size by picture")
            found[name] = YoloFaceDetector(int8, RuntimeOptions("openvino", "f32", threads), size, LOWEST_SCORE)
    return found


def _medians(finders: dict[str, FaceFinder], sample: list[Labelled]) -> dict[str, float]:
    spent: dict[str, list[float]] = {name: [] for name in finders}
    for picture in track(sample, description="timing"):
        for name, finder in finders.items():
            began = time.perf_counter()
            finder.detect([picture.pixels])
            spent[name].append(time.perf_counter() - began)
    return {name: 1000 * statistics.median(times) for name, times in spent.items()}


def _ap50(finder: FaceFinder, pictures: list[Labelled]) -> float:
    return figures([Seen(picture.path, picture.boxes, finder.detect([picture.pixels])[0]) for picture in pictures]).ap50


def _shares(sample: list[Labelled]) -> str:
    """Where the time of a picture goes: decoding its file, scaling, the graph with its input, reading the boxes."""
    parts: dict[str, list[float]] = {
        "decode": [],
        "letterbox": [],
        "graph": [],
        "input tensor, boxes, NMS": [],
        "landmarks": [],
    }
    options = RuntimeOptions("openvino", "bf16", 2)
    bundle = BUNDLES / "detector"
    served = YoloFaceDetector(bundle, options, min_score=None)
    sizes, stage = served.manifest.input_sizes, served.manifest.landmark_stage
    assert stage is not None
    second = LandmarkRefiner(bundle, stage, options)
    graphs = {size: open_graph(bundle / served.manifest.graph, size, options) for size in sizes}
    for picture in sample:
        data = picture.path.read_bytes()
        size = next((size for size in sizes if max(picture.pixels.shape) <= size * ENLARGEABLE), sizes[-1])
        tensor = np.random.default_rng(0).random((1, 3, size, size), np.float32)
        parts["decode"].append(_seconds(decode, data, ImageLimits()))
        parts["letterbox"].append(_seconds(letterbox, picture.pixels, size))
        parts["graph"].append(_seconds(graphs[size].run, tensor))
        whole = _seconds(served.detect, [picture.pixels])
        parts["landmarks"].append(_seconds(second.refine, [picture.pixels], served.detect([picture.pixels])))
        known = parts["letterbox"][-1] + parts["graph"][-1] + parts["landmarks"][-1]
        parts["input tensor, boxes, NMS"].append(max(whole - known, 0.0))
    medians = {name: 1000 * statistics.median(times) for name, times in parts.items()}
    whole = sum(medians.values())
    return table(("part", "ms", "share"), [(name, f"{ms:.2f}", f"{ms / whole:.0%}") for name, ms in medians.items()])


def _seconds(call: Callable[..., object], *arguments: object) -> float:
    began = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - began


if __name__ == "__main__":
    typer.run(main)
