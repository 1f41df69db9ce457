"""Adds a trained landmark refiner to a detector bundle."""

import hashlib
from pathlib import Path

import torch

from service.inference.bundle import read_detector
from service.inference.manifest import DetectorManifest, LandmarkStage
from trainer.detector.bundle_stages import add_stage
from trainer.landmarks.config import LandmarkConfig
from trainer.landmarks.faces import MARGIN
from trainer.landmarks.model import Deployed
from trainer.landmarks.training import load
from trainer.onnx_graph import write_graph

GRAPH = "landmarks.onnx"


def export(checkpoint: Path, config_file: Path, bundle: Path) -> DetectorManifest:
    """Writes the refiner's graph to a detector bundle and updates the manifest.

    Args:
        bundle: folder of the detector bundle; a landmark graph in it is replaced.
    """
    config = LandmarkConfig.load(config_file)
    manifest = read_detector(bundle)
    graph = bundle / f".{GRAPH}.partial"
    example = torch.zeros(2, 3, config.input_size, config.input_size)
    write_graph(Deployed(load(checkpoint, config)).eval(), example, graph, "landmarks")
    stage = LandmarkStage(
        graph=GRAPH,
        input_size=config.input_size,
        margin=MARGIN,
        verifies=True,
        config_sha256=hashlib.sha256(config_file.read_bytes()).hexdigest(),
    )
    return add_stage(bundle, manifest, "landmark_stage", stage, graph)
