"""`python -m tools.int8`: would an 8-bit embedder be worth it? Accuracy and speed beside the shipped one.

Static quantisation by ONNX Runtime (per channel, QDQ), ranges from crops of held-out people. The result is a bundle
beside the shipped one; nothing is replaced.
"""

import json
import shutil
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import onnx
import typer
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from service.inference.bundle import file_sha256
from service.inference.detector import YoloFaceDetector
from service.inference.embedder import FaceEmbedder
from service.inference.engine import FaceChoice
from service.inference.graph import RuntimeOptions, open_graph
from service.inference.local import LocalEngine
from service.runtime.settings import BUNDLES
from service.vision.image import ImageLimits
from trainer.archives import unpack
from trainer.embedder.calibration import held_out_rows
from trainer.embedder.canvases import CROP, load_canvases, middle_crops
from trainer.embedder.config import EmbedderConfig
from trainer.embedder.evaluation import evaluate
from trainer.embedder.split import Part
from trainer.tables import table

CROPS = 512


def main(
    pairs: Annotated[Path, typer.Option(help="Folder or zip with pairs.csv and <identity>/<photo>.jpg.")],
    identities: Annotated[list[Path], typer.Option(help="Canvases; held-out people give the ranges.")],
    config: Annotated[Path, typer.Option(help="YAML with the split of people.")] = Path("configs/train.yaml"),
    output: Annotated[Path, typer.Option(help="The 8-bit bundle.")] = Path("runs/int8"),
    work: Annotated[Path, typer.Option(help="Where archives are unpacked and decoded.")] = Path("runs/data"),
) -> None:
    """Print accuracy and milliseconds of both."""
    shutil.copytree(BUNDLES / "embedder", output, dirs_exist_ok=True)
    canvases = load_canvases(unpack(identities, work / "identities"), None, work / "cache")
    split = EmbedderConfig.load(config).split
    held_out = held_out_rows(canvases, split, Part.CALIBRATION)
    chosen = np.random.default_rng(0).permutation(held_out)[:CROPS]
    crops = np.stack(middle_crops(canvases.pictures[np.sort(chosen)]))
    _quantise(output / "model.onnx", crops)
    _describe(output)
    folder = next(path.parent for path in unpack([pairs], work / "pairs").rglob("pairs.csv"))
    rows = []
    for name, bundle in (("float32", BUNDLES / "embedder"), ("int8", output)):
        options = RuntimeOptions("onnxruntime", threads=1)
        finder = YoloFaceDetector(BUNDLES / "detector", RuntimeOptions())
        engine = LocalEngine(finder, [FaceEmbedder(bundle, options)], ImageLimits())
        figures = evaluate(engine, folder, None, FaceChoice.STRONGEST)
        size = (bundle / "model.onnx").stat().st_size / 1e6
        tar = figures.tar_at_fmr[1e-3]
        rows.append((name, f"{figures.accuracy:.4f}", f"{tar:.4f}", *_speeds(bundle), f"{size:.1f}"))
    head = ("weights", "accuracy", "TAR at FMR 1e-3", "ms, ONNX Runtime", "ms, OpenVINO", "MB")
    typer.echo(table(head, rows))


class _Reader(CalibrationDataReader):
    def __init__(self, name: str, crops: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]") -> None:
        planes = (crops.transpose(0, 3, 1, 2).astype(np.float32) - 127.5) / 128
        self._batches = iter([{name: planes[start : start + 32]} for start in range(0, len(planes), 32)])

    def get_next(self) -> "dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]] | None":
        return next(self._batches, None)


def _quantise(path: Path, crops: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]") -> None:
    prepared = path.with_suffix(".prepared.onnx")
    quant_pre_process(str(path), str(prepared))
    reader = _Reader(onnx.load(str(path)).graph.input[0].name, crops)
    quantize_static(str(prepared), str(path), reader, quant_format=QuantFormat.QDQ, per_channel=True)
    prepared.unlink()


def _describe(bundle: Path) -> None:
    path = bundle / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest |= {"model_id": f"{manifest['model_id']}-int8", "calibration": None}
    manifest["files"]["model.onnx"] = file_sha256(bundle / "model.onnx")
    path.write_text(json.dumps(manifest))


def _speeds(bundle: Path) -> list[str]:
    """Milliseconds of a batch of one on one core."""
    pixels = np.random.default_rng(0).random((1, 3, CROP, CROP), np.float32)
    found = []
    for backend in ("onnxruntime", "openvino"):
        graph = open_graph(bundle / "model.onnx", CROP, RuntimeOptions(backend, threads=1))  # type: ignore[arg-type]
        times = []
        for _ in range(60):
            started = time.perf_counter()
            graph.run(pixels)
            times.append(time.perf_counter() - started)
        found.append(f"{np.median(times) * 1000:.1f}")
    return found


if __name__ == "__main__":
    typer.run(main)
