"""Compares the service with two short scripts that a user could write: from a picture's file to an embedding.

    make bench YUNET=yunet.onnx MOBILEFACENET=w.onnx [SCRFD=scrfd.onnx] [PHOTOS=folder]

The peers are OpenCV's YuNet at up to 640 px with MobileFaceNet, and InsightFace's SCRFD-2.5G at 640 px with
MobileFaceNet. All run in this process, alternating picture by picture, with the same number of threads. ONNX Runtime's
threads do not spin, because a spinning thread would slow down the next engine. The registry runs with the default
settings and, where the processor has it, with `inference.precision=bf16`. Times are medians on this machine;
compare the ratios, not the times, with other machines.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import cv2
import numpy as np
import onnxruntime
import typer
from rich.progress import track

from service.demo.photos import SUFFIXES, packaged_cast
from service.inference.calibration import Precision
from service.inference.detector import YoloFaceDetector
from service.inference.embedder import FaceEmbedder
from service.inference.engine import FaceFinder, Picture
from service.inference.graph import RuntimeOptions
from service.inference.pipeline import FacePipeline
from service.runtime.settings import BUNDLES
from service.telemetry.metrics import STAGES
from service.vision.alignment import TEMPLATE_SIZE, align_with_margin
from service.vision.geometry import Floats
from service.vision.image import Pixels
from tools.scrfd import Scrfd
from trainer.finders.yunet import YUNET_MIN_SCORE, YuNet
from trainer.tables import table

SIZES = ((250, 250), (640, 640), (1280, 720), (4000, 3000))
"""Widths and heights of the pictures that are made from each photo."""
YUNET_MAX_SIDE = 640
JPEG_QUALITY, NOISE = 90, 3.0
"""Noise in grey levels of a picture with more pixels than its photo: without it, an enlarged photo decodes too fast."""


class Script:
    """A peer: decodes with OpenCV, detects in a scaled-down picture, aligns the largest face and embeds it."""

    def __init__(self, finder: FaceFinder, embedder: Path, threads: int, max_side: int | None) -> None:
        self._finder, self._max_side = finder, max_side
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = threads
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(str(embedder), settings, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name

    def embed(self, data: bytes) -> Floats | None:
        """Returns the embedding of the largest face, or None without a face."""
        pixels = cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        scale = min(1.0, (self._max_side or max(pixels.shape)) / max(pixels.shape))
        small = pixels if scale == 1 else cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        [faces] = self._finder.detect([small])  # type: ignore[list-item]
        faces = [face for face in faces if face.score >= YUNET_MIN_SCORE and face.landmarks is not None]
        if not faces:
            return None
        largest = max(faces, key=lambda face: (face.box[2] - face.box[0]) * (face.box[3] - face.box[1]))
        assert largest.landmarks is not None
        crop, _ = align_with_margin(pixels, largest.landmarks[:, :2] / scale, TEMPLATE_SIZE, 0)  # type: ignore[arg-type]
        planes = (crop.astype(np.float32).transpose(2, 0, 1)[None] - np.float32(127.5)) / np.float32(128)
        return self._session.run(None, {self._input: planes})[0][0]  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Registry:
    """The service's pipeline with the shipped bundles and, but for the embedder's precision, the default settings."""

    pipeline: FacePipeline

    def embed(self, data: bytes) -> Floats | None:
        [observation] = self.pipeline.observe_files([Picture(data)])
        faces = getattr(observation, "faces", ())
        return faces[0].embedding if faces else None


def open_registry(threads: int, precision: Precision | Literal["auto"] = "f32") -> Registry:
    """Returns the service's pipeline; with the precision "auto", the embedder uses bf16 if the processor has it."""
    detector = YoloFaceDetector(BUNDLES / "detector", RuntimeOptions(precision="auto", threads=threads))
    embedder = FaceEmbedder(BUNDLES / "embedder", RuntimeOptions(precision=precision, threads=threads))
    return Registry(FacePipeline(detector, [embedder]))


def photos_in(folder: Path | None, maximum: int) -> list[Pixels]:
    """Returns evenly chosen photos of a folder and its subfolders, BGR; without a folder those of the demonstration."""
    if folder is None:
        paths = [path for person in packaged_cast().people for path in person.enrolled]
    else:
        paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    chosen = paths[:: max(1, len(paths) // maximum)][:maximum]
    return [photo for path in chosen if (photo := cv2.imread(str(path))) is not None]  # type: ignore[misc]


def jpeg(photo: Pixels, width: int, height: int) -> bytes:
    """Returns a JPEG file of this size that contains the whole photo in front of a blurred copy of it."""
    background = cv2.GaussianBlur(cv2.resize(photo, (64, 64)), (31, 31), 0)
    canvas = cv2.resize(background, (width, height)).astype(np.float32)
    scale = min(width / photo.shape[1], height / photo.shape[0])
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    inner = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=method)[:height, :width]
    top, left = (height - inner.shape[0]) // 2, (width - inner.shape[1]) // 2
    canvas[top : top + inner.shape[0], left : left + inner.shape[1]] = inner
    if scale > 1:
        canvas += cv2.resize(np.random.default_rng(0).normal(0, NOISE, (512, 512, 3)), (width, height))
    picture = canvas.clip(0, 255).astype(np.uint8)
    return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()


def compare(engines: dict[str, Callable[[bytes], Floats | None]], files: Sequence[bytes]) -> dict[str, list[float]]:
    """Returns the milliseconds of each engine for each file; the engines alternate."""
    times: dict[str, list[float]] = {name: [] for name in engines}
    for embed in engines.values():
        embed(files[0])
    for data in files:
        for name, embed in engines.items():
            started = time.perf_counter()
            embed(data)
            times[name].append(1000 * (time.perf_counter() - started))
    return times


def stage_ms(registry: Registry, files: Sequence[bytes]) -> dict[str, float]:
    """Returns the mean milliseconds of each stage of the service's pipeline."""
    before = _stage_seconds()
    for data in files:
        registry.embed(data)
    return {name: 1000 * (total - before.get(name, 0.0)) / len(files) for name, total in _stage_seconds().items()}


def _stage_seconds() -> dict[str, float]:
    samples = (sample for metric in STAGES.collect() for sample in metric.samples)
    return {sample.labels["stage"]: sample.value for sample in samples if sample.name.endswith("_sum")}


def main(
    yunet: Annotated[Path, typer.Option(help="ONNX file of YuNet.")],
    mobilefacenet: Annotated[Path, typer.Option(help="ONNX file of MobileFaceNet, for 112 px, (x - 127.5) / 128.")],
    scrfd: Annotated[Path | None, typer.Option(help="ONNX file of SCRFD (scrfd_2.5g_bnkps).")] = None,
    photos: Annotated[Path | None, typer.Option(help="Folder of photos; default: those of the demonstration.")] = None,
    count: Annotated[int, typer.Option(min=1, help="Number of photos.")] = 20,
    repeats: Annotated[int, typer.Option(min=1, help="Number of rounds.")] = 3,
    threads: Annotated[int, typer.Option(min=1, help="Threads of each engine.")] = 2,
) -> None:
    """Print the time from a picture's file to an embedding beside that of the peers, and the service's by stage."""
    cv2.setNumThreads(threads)
    registry = open_registry(threads)
    engines: dict[str, Callable[[bytes], Floats | None]] = {
        "registry": registry.embed,
        "registry, bf16": open_registry(threads, "auto").embed,
        "YuNet + MobileFaceNet": Script(YuNet(yunet, YUNET_MIN_SCORE), mobilefacenet, threads, YUNET_MAX_SIDE).embed,
    }
    if scrfd is not None:
        engines["SCRFD + MobileFaceNet"] = Script(Scrfd(scrfd, threads=threads), mobilefacenet, threads, None).embed
    chosen = photos_in(photos, count)
    if not chosen:
        raise typer.BadParameter(f"{photos} contains no photo")
    rows, stages = [], []
    for width, height in track(SIZES, description="sizes"):
        files = [jpeg(photo, width, height) for photo in chosen]
        medians = {name: statistics.median(times) for name, times in compare(engines, files * repeats).items()}
        ratios = (f"{medians[name] / medians['YuNet + MobileFaceNet']:.2f}" for name in ("registry", "registry, bf16"))
        found = sum(registry.embed(data) is not None for data in files)
        size = f"{width} x {height}"
        rows.append((size, *(f"{ms:.1f}" for ms in medians.values()), *ratios, found))
        stages.append((size, *(f"{ms:.2f}" for ms in stage_ms(registry, files * repeats).values())))
    typer.echo(f"{len(chosen)} photos, {repeats} rounds, {threads} threads; median milliseconds per picture")
    typer.echo(table(("picture", *engines, "ratio to YuNet", "with bf16", "faces found by registry"), rows))
    typer.echo(table(("registry, mean ms", *_stage_seconds()), stages))


if __name__ == "__main__":
    typer.run(main)
