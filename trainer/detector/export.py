"""Exports an Ultralytics checkpoint as a detector bundle."""

import datetime
import hashlib
import shutil
import tempfile
from pathlib import Path

import trainer.quiet_ultralytics  # noqa: F401  isort: skip
import torch
from ultralytics.models import YOLO
from ultralytics.nn.tasks import PoseModel

from service.inference.bundle import file_sha256, write_manifest
from service.inference.manifest import DetectorManifest, PixelScaling, Provenance
from trainer.onnx_graph import prepare_for_bundle

INPUT_SIZES = [320, 640]
MAX_IOU = 0.5
OPSET = 17


def export(
    checkpoint: Path, output: Path, model_id: str, config: Path, min_score: float, provenance: dict[str, object]
) -> DetectorManifest:
    """Writes `model.onnx` and its manifest to `output`, which is created if necessary.

    The graph accepts square inputs whose side is a multiple of 32. Its weights are stored in float16; runtimes compute
    in float32.

    Args:
        config: file with the training configuration; the manifest holds its SHA-256.
        min_score: default minimum score of a detection.
        provenance: values of `Provenance` other than `created` and `config_sha256`.
    """
    output.mkdir(parents=True, exist_ok=True)
    graph = output / "model.onnx"
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "plain.pt"
        _as_plain_checkpoint(checkpoint, plain)
        exported = YOLO(str(plain), task="pose").export(
            format="onnx", dynamic=True, simplify=False, opset=OPSET, imgsz=640
        )
        shutil.copyfile(exported, graph)
    prepare_for_bundle(graph)
    manifest = DetectorManifest(
        kind="detector",
        format_version=1,
        model_id=model_id,
        files={graph.name: file_sha256(graph)},
        scaling=PixelScaling(mean=0.0, std=255.0),
        input_sizes=INPUT_SIZES,
        landmarks=5,
        min_score=min_score,
        max_iou=MAX_IOU,
        provenance=Provenance(
            created=datetime.datetime.now(datetime.UTC).date().isoformat(),
            config_sha256=hashlib.sha256(config.read_bytes()).hexdigest(),
            **provenance,
        ),
    )
    write_manifest(output, manifest)
    return manifest


def _as_plain_checkpoint(checkpoint: Path, plain: Path) -> None:
    """Writes a copy of a checkpoint with Ultralytics' class in place of the trainer's subclass.

    An Ultralytics checkpoint contains a pickled model, so loading it executes code that the file contains: use only
    files that you trust.
    """
    saved = torch.load(checkpoint, map_location="cpu", weights_only=False)
    model = saved.get("ema") or saved["model"]
    model.__class__ = PoseModel
    torch.save({**saved, "model": model.float(), "ema": None}, plain)
