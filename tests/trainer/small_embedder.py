"""The configuration of a small embedder that trains in seconds, and its embeddings."""

from pathlib import Path

import numpy as np
import torch

from trainer.embedder.aligned_crops import load_aligned_crops
from trainer.embedder.augmentation import centre_tensor
from trainer.embedder.checkpoints import load_encoder
from trainer.embedder.config import EmbedderConfig

CONFIG = EmbedderConfig.model_validate(
    {
        "backbone": "residual_small",
        "embedding_dim": 16,
        "compile": False,
        "precision": "32-true",
        "split": {"validation": 0.0, "calibration": 0.0},
        "stages": [
            {
                "name": "batch-hard",
                "epochs": 15,
                "batch_size": 8,
                "images_per_identity": 4,
                "learning_rate": 1e-3,
                "losses": {"triplet": 1.0},
            }
        ],
    }
)


def embed(checkpoint: Path, folder: Path, cache: Path) -> tuple[np.ndarray, list[str]]:
    encoder, _ = load_encoder(checkpoint)
    crops = load_aligned_crops(folder, None, cache)
    with torch.inference_mode():
        pixels = centre_tensor(torch.from_numpy(np.array(crops.pictures)))
        return torch.nn.functional.normalize(encoder(pixels)).numpy(), crops.identities
