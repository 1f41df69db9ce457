"""Exports an Ultralytics checkpoint as a detector bundle."""

import datetime
import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import Literal, cast

import trainer.quiet_ultralytics  # noqa: F401  isort: skip
import torch
from ultralytics.models import YOLO
from ultralytics.nn.tasks import DetectionModel, PoseModel

from service.inference.bundle import file_sha256, read_detector, write_manifest
from service.inference.manifest import DetectorManifest, FirstLook, PixelScaling
from service.inference.provenance import Provenance
from trainer.configuration import ConfigError
from trainer.detector.bundle_stages import add_stage
from trainer.onnx_graph import prepare_for_bundle

INPUT_SIZES = [192, 320, 640]
FIRST_LOOK_GRAPH, FIRST_LOOK_SIZE = "first-look.onnx", 192
MAX_IOU = 0.5
OPSET = 17
LANDMARKS: Literal[5] = 5


def export(
    checkpoint: Path, output: Path, model_id: str, config: Path, min_score: float, provenance: dict[str, object]
) -> DetectorManifest:
    """Writes `model.onnx` and its manifest to `output`, which is created if necessary.

    The checkpoint is a pose model with five landmarks, or a detection model, whose faces have no landmarks.

    The graph accepts square inputs whose side is a multiple of 32. Its weights are stored in float16; runtimes compute
    in float32.

    Args:
        config: file with the training configuration; the manifest holds its SHA-256.
        min_score: default minimum score of a detection.
        provenance: values of `Provenance` other than `created` and `config_sha256`.

    Raises:
        ConfigError: the model has several classes, another number of landmarks, or is neither kind of model.
    """
    output.mkdir(parents=True, exist_ok=True)
    graph = output / "model.onnx"
    landmarks = _write_graph(checkpoint, graph)
    manifest = DetectorManifest(
        kind="detector",
        format_version=1,
        model_id=model_id,
        files={graph.name: file_sha256(graph)},
        scaling=PixelScaling(mean=0.0, std=255.0),
        input_sizes=INPUT_SIZES,
        landmarks=landmarks,
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


def add_first_look(checkpoint: Path, config: Path, bundle: Path) -> DetectorManifest:
    """Adds a small detector, which is tried first, to a bundle, or replaces the one of the bundle.

    The scaling of the pixels and the limits of scores and overlaps are those of the bundle.

    Args:
        config: file with the training configuration; its `image_size` does not become the input size.

    Raises:
        ConfigError: the checkpoint has other landmarks than the bundle, or is no detector of faces.
    """
    manifest = read_detector(bundle)
    graph = bundle / f".{FIRST_LOOK_GRAPH}.partial"
    if _write_graph(checkpoint, graph) != manifest.landmarks:
        graph.unlink()
        raise ConfigError(f"{checkpoint} has other landmarks than {bundle}; train it on the same data")
    look = FirstLook(
        graph=FIRST_LOOK_GRAPH,
        input_size=FIRST_LOOK_SIZE,
        config_sha256=hashlib.sha256(config.read_bytes()).hexdigest(),
    )
    return add_stage(bundle, manifest, "first_look", look, graph)


def _write_graph(checkpoint: Path, graph: Path) -> Literal[0, 5]:
    """Writes a checkpoint as an ONNX file for inputs of any size; returns the number of landmarks."""
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "plain.pt"
        landmarks = _as_plain_checkpoint(checkpoint, plain)
        exported = YOLO(str(plain), task="pose" if landmarks else "detect").export(
            format="onnx", dynamic=True, simplify=False, opset=OPSET, imgsz=640
        )
        shutil.copyfile(exported, graph)
    prepare_for_bundle(graph)
    return landmarks


def _as_plain_checkpoint(checkpoint: Path, plain: Path) -> Literal[0, 5]:
    """Writes a copy of a checkpoint with Ultralytics' class in place of a subclass; returns the number of landmarks.

    An Ultralytics checkpoint contains a pickled model, so loading it executes code that the file contains: use only
    files that you trust.
    """
    saved = torch.load(checkpoint, map_location="cpu", weights_only=False)
    model = saved.get("ema") or saved["model"]
    if len(model.names) != 1:
        raise ConfigError(
            f"{checkpoint} detects {', '.join(model.names.values())}; a checkpoint of faces alone is needed"
        )
    landmarks: Literal[0, 5] = 0
    if isinstance(model, PoseModel):
        shape = cast("dict[str, list[int]]", model.yaml)["kpt_shape"]
        if list(shape) != [LANDMARKS, 3]:
            raise ConfigError(f"{checkpoint} has landmarks of shape {shape}; [5, 3] is required")
        model.__class__, landmarks = PoseModel, LANDMARKS
    elif type(model) is not DetectionModel:
        raise ConfigError(f"{checkpoint} contains a {type(model).__name__}; a pose or detection model is required")
    torch.save({**saved, "model": model.float(), "ema": None}, plain)
    return landmarks
