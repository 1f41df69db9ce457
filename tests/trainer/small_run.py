"""A training configuration of a small embedder with validation people, and its runs."""

from pathlib import Path
from typing import Any

import torch

from trainer.embedder import training
from trainer.embedder.aligned_crops import AlignedCrops
from trainer.embedder.checkpoints import load_encoder
from trainer.embedder.config import EmbedderConfig

STILL = {
    "rotation_degrees": 0, "shift": 0, "scale": 0, "flip": 0, "light": 0, "greyscale": 0, "low_resolution": 0,
    "occlusion": 0,
}  # fmt: skip
STAGE = {
    "name": "one",
    "epochs": 2,
    "batch_size": 8,
    "images_per_identity": 4,
    "learning_rate": 1e-3,
    "losses": {"triplet": 1.0},
}
RUN = {
    "backbone": "shufflenet_v2_x0_5",
    "input_size": 64,
    "embedding_dim": 8,
    "compile": False,
    "precision": "32-true",
    "split": {"validation": 0.5, "calibration": 0.0},
    "augmentation": STILL,
}
"""A small model that trains in seconds."""


def run_config(run: dict[str, Any] | None = None, stage: dict[str, Any] | None = None) -> EmbedderConfig:
    return EmbedderConfig.model_validate({**RUN, **(run or {}), "stages": [{**STAGE, **(stage or {})}]})


class Run:
    """Trains, and gives access to weights, folder and log of the run."""

    def __init__(self, folder: Path, config: EmbedderConfig, crops: AlignedCrops, **options: Any) -> None:
        self.best = training.train(config, crops, (), folder / "cache", folder / "run", **options)
        self.folder = self.best.parent

    @property
    def weights(self) -> torch.Tensor:
        return torch.cat([value.flatten().float() for value in load_encoder(self.best)[0].state_dict().values()])

    @property
    def log(self) -> str:
        return (self.folder / "csv" / "metrics.csv").read_text()
