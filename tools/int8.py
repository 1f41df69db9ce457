"""`python -m tools.int8`: compares accuracy and speed of an 8-bit embedder with the shipped one.

ONNX Runtime quantises the graph statically (per channel, QDQ); crops of held-out people determine the ranges. The
result is a new bundle; the shipped one stays unchanged.
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
from service.inference.pipeline import FacePipeline
from service.runtime.settings import BUNDLES
from trainer.archives import unpack
from trainer.embedder.aligned_crops import CENTRE_SIZE, centre_crops, load_aligned_crops
from trainer.embedder.calibration import rows_of_part
from trainer.embedder.config import EmbedderConfig
from trainer.embedder.evaluation import evaluate
from trainer.embedder.split import Part
from trainer.tables import table

CALIBRATION_CROPS = 512
BATCH = 32
REPEATS = 60


def main(
    pairs: Annotated[Path, typer.Option(help="Folder or zip archive with pairs.csv and <identity>/<photo>.jpg.")],
    identities: Annotated[
        list[Path],
        typer.Option(help="Folder or zip archive of <identity>/<aligned crop>; held-out people are used; repeatable."),
    ],
    config: Annotated[
        Path, typer.Option(help="YAML file that trained the embedder; its `split` says which people are held out.")
    ] = Path("configs/train.yaml"),
    output: Annotated[Path, typer.Option(help="Folder of the 8-bit bundle.")] = Path("runs/int8"),
    work: Annotated[Path, typer.Option(help="Folder for extracted archives and cached artefacts.")] = Path("runs/data"),
) -> None:
    """Quantise the shipped embedder and print accuracy and milliseconds of both."""
    shutil.copytree(BUNDLES / "embedder", output, dirs_exist_ok=True)
    aligned = load_aligned_crops(unpack(identities, work / "identities"), None, work / "cache")
    split = EmbedderConfig.load(config).split
    held_out = rows_of_part(aligned, split, Part.CALIBRATION)
    chosen = np.random.default_rng(0).permutation(held_out)[:CALIBRATION_CROPS]
    crops = np.stack(centre_crops(aligned.pictures[np.sort(chosen)]))
    _quantise(output / "model.onnx", crops)
    _update_manifest(output)
    folder = next(path.parent for path in unpack([pairs], work / "pairs").rglob("pairs.csv"))
    rows = []
    for name, bundle in (("float32", BUNDLES / "embedder"), ("int8", output)):
        options = RuntimeOptions("onnxruntime", threads=1)
        detector = YoloFaceDetector(BUNDLES / "detector", RuntimeOptions())
        engine = FacePipeline(detector, [FaceEmbedder(bundle, options)])
        figures = evaluate(engine, folder, None, FaceChoice.STRONGEST)
        size = (bundle / "model.onnx").stat().st_size / 1e6
        tar = figures.tar_at_fmr[1e-3]
        rows.append((name, f"{figures.accuracy:.4f}", f"{tar:.4f}", *_speeds(bundle), f"{size:.1f}"))
    head = ("weights", "accuracy", "TAR at FMR 1e-3", "ms, ONNX Runtime", "ms, OpenVINO", "MB")
    typer.echo(table(head, rows))


class _Reader(CalibrationDataReader):
    """Feeds (N, 112, 112, 3) crops to the quantiser in batches."""

    def __init__(self, name: str, crops: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]") -> None:
        planes = ((crops.transpose(0, 3, 1, 2) - 127.5) / 128).astype(np.float32)
        self._batches = iter([{name: planes[start : start + BATCH]} for start in range(0, len(planes), BATCH)])

    def get_next(self) -> "dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]] | None":
        return next(self._batches, None)


def _quantise(path: Path, crops: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]") -> None:
    prepared = path.with_suffix(".prepared.onnx")
    quant_pre_process(str(path), str(prepared))
    reader = _Reader(onnx.load(str(path)).graph.input[0].name, crops)
    quantize_static(str(prepared), str(path), reader, quant_format=QuantFormat.QDQ, per_channel=True)
    prepared.unlink()


def _update_manifest(bundle: Path) -> None:
    """Changes the model id, removes the calibration of the original, and updates the hash of the graph."""
    path = bundle / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest |= {"model_id": f"{manifest['model_id']}-int8", "calibration": None, "supersedes": []}
    manifest["files"]["model.onnx"] = file_sha256(bundle / "model.onnx")
    path.write_text(json.dumps(manifest))


def _speeds(bundle: Path) -> list[str]:
    """Returns the median milliseconds of a batch of one on one core, with ONNX Runtime and with OpenVINO."""
    pixels = np.random.default_rng(0).random((1, 3, CENTRE_SIZE, CENTRE_SIZE), np.float32)
    medians = []
    for backend in ("onnxruntime", "openvino"):
        graph = open_graph(bundle / "model.onnx", CENTRE_SIZE, RuntimeOptions(backend, threads=1))
        times = []
        for _ in range(REPEATS):
            started = time.perf_counter()
            graph.run(pixels)
            times.append(time.perf_counter() - started)
        medians.append(f"{np.median(times) * 1000:.1f}")
    return medians


if __name__ == "__main__":
    typer.run(main)
