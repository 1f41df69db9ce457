"""Variants of the landmark channels, and a configuration of a small embedder with them."""

from service.vision.heatmaps import LandmarkChannels
from trainer.embedder.config import EmbedderConfig

VARIANTS = {
    "groups": LandmarkChannels(),
    "groups without a mask": LandmarkChannels(mask=False, sigma=2.5),
    "points": LandmarkChannels(layout="points", sigma=6.0),
}


def run_config(channels: LandmarkChannels) -> EmbedderConfig:
    stage = {
        "name": "one",
        "epochs": 2,
        "batch_size": 8,
        "images_per_identity": 4,
        "learning_rate": 1e-3,
        "losses": {"triplet": 1.0},
    }
    return EmbedderConfig.model_validate(
        {
            "backbone": "residual_small",
            "embedding_dim": 8,
            "compile": False,
            "precision": "32-true",
            "mirror_average": channels.mask,
            "landmark_channels": channels.model_dump(),
            "split": {"validation": 0.0, "calibration": 0.0},
            "stages": [stage],
        }
    )
