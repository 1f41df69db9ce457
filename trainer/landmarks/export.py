"""From a trained refiner to a part of a detector bundle."""

import hashlib
from pathlib import Path

import torch

from service.inference.bundle import DetectorManifest, LandmarkStage, file_sha256, read_detector, write_manifest
from trainer.half_storage import store_weights_as_half
from trainer.landmarks.config import LandmarkConfig
from trainer.landmarks.faces import MARGIN
from trainer.landmarks.model import Deployed
from trainer.landmarks.training import load

GRAPH = "landmarks.onnx"
OPSET = 18


def export(checkpoint: Path, config_file: Path, bundle: Path) -> DetectorManifest:
    """Write the refiner's graph into a detector bundle and describe it in the manifest."""
    config = LandmarkConfig.load(config_file)
    manifest = read_detector(bundle)
    graph = bundle / f".{GRAPH}.partial"
    example = torch.zeros(2, 3, config.input_size, config.input_size)
    torch.onnx.export(
        Deployed(load(checkpoint, config)).eval(),
        (example,),
        str(graph),
        input_names=["crops"],
        output_names=["landmarks"],
        dynamic_shapes={"crops": {0: torch.export.Dim("faces", min=1, max=1024)}},
        opset_version=OPSET,
        external_data=False,
        dynamo=True,
        verbose=False,
    )
    store_weights_as_half(graph)
    stage = LandmarkStage(
        graph=GRAPH,
        input_size=config.input_size,
        margin=MARGIN,
        config_sha256=hashlib.sha256(config_file.read_bytes()).hexdigest(),
    )
    files = {manifest.graph: manifest.files[manifest.graph], GRAPH: file_sha256(graph)}
    described = manifest.model_copy(update={"landmark_stage": stage, "files": files})
    graph.rename(bundle / GRAPH)
    write_manifest(bundle, described)
    return described
