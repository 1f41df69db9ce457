"""Measures a checkpoint on held-out people, without a bundle and without a list of pairs."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from service.inference.calibration import Interval
from trainer.choices import LandmarkFinderName
from trainer.configuration import ConfigError
from trainer.embedder import plots
from trainer.embedder.aligned_crops import AlignedCrops
from trainer.embedder.augmentation import encoder_input
from trainer.embedder.bootstrap import fnmr_intervals
from trainer.embedder.calibration import MIN_PAIRS_ABOVE, Floats, rows_of_part
from trainer.embedder.checkpoints import load_encoder
from trainer.embedder.config import EmbedderConfig
from trainer.embedder.crop_landmarks import configured_landmarks
from trainer.embedder.scores import PairScores, all_pairs, balanced_accuracy, top_k_rate
from trainer.embedder.split import EVERYBODY, Part
from trainer.progress import track
from trainer.tables import table

BATCH = 64
RATES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)


@dataclass(frozen=True)
class CheckpointFigures:
    """Figures of all pairs of held-out pictures.

    Attributes:
        tar_at_fmr: true accept rate by false match rate, as far down as it is measurable.
        accuracy: 10-fold accuracy on as many impostor pairs as genuine pairs.
    """

    part: Part | None
    people: int
    pictures: int
    pairs: PairScores
    tar_at_fmr: dict[float, float]
    fnmr_intervals: dict[float, Interval]
    accuracy: float
    rank_1: float

    def summary(self) -> dict[str, float]:
        """Returns the figures by name."""
        return {
            "people": self.people,
            "pictures": self.pictures,
            "genuine_pairs": len(self.pairs.genuine),
            "impostor_pairs": len(self.pairs.impostor),
            "accuracy_10_fold": round(self.accuracy, 4),
            "roc_auc": round(self.pairs.area_under_roc, 5),
            "rank_1": round(self.rank_1, 4),
            **{f"tar_at_fmr_{rate:g}": round(value, 4) for rate, value in self.tar_at_fmr.items()},
        }


def measure_checkpoint(
    checkpoint: Path,
    crops: AlignedCrops,
    part: Part | None,
    finder: LandmarkFinderName = LandmarkFinderName.YOLO,
    finder_file: Path | None = None,
) -> CheckpointFigures:
    """Measures the people whom the checkpoint's own split assigns to a part.

    Args:
        part: None: everybody, training people included.
        finder, finder_file: find the landmarks for a model with landmark channels.

    Raises:
        ConfigError: The file is not a checkpoint, or the part has too few people.
    """
    encoder, config = load_encoder(checkpoint)
    split, measured = (EVERYBODY, Part.CALIBRATION) if part is None else (config.split, part)
    rows = rows_of_part(crops, split, measured)
    names = [crops.identities[row] for row in rows]
    if len(set(names)) < 2 or len(set(names)) == len(names):
        raise ConfigError(
            f"the split of the checkpoint assigns {len(set(names))} people with {len(names)} pictures to "
            f"{part or 'all'}; at least two people, one with several pictures, are needed"
        )
    landmarks = None
    if config.landmark_channels is not None:
        landmarks = torch.from_numpy(configured_landmarks(crops, config.landmark_channels, finder, finder_file))
    embeddings = _embed(encoder, config, crops, rows, landmarks)
    pairs = all_pairs(embeddings, names)
    thresholds = {rate: pairs.threshold_at(rate) for rate in RATES if rate * len(pairs.impostor) >= MIN_PAIRS_ABOVE}
    return CheckpointFigures(
        part=part,
        people=len(set(names)),
        pictures=len(rows),
        pairs=pairs,
        tar_at_fmr={rate: pairs.true_accept_rate(threshold) for rate, threshold in thresholds.items()},
        fnmr_intervals=fnmr_intervals(embeddings, names, thresholds),
        accuracy=balanced_accuracy(pairs),
        rank_1=top_k_rate(embeddings, names, 1),
    )


def checkpoint_report(figures: CheckpointFigures, checkpoint: Path, folder: Path) -> str:
    """Writes the plot of the report to a folder and returns the report."""
    plots.verification(figures.pairs, folder / "verification.png", figures.fnmr_intervals)
    rows = [(name, f"{value:,}") for name, value in figures.summary().items()]
    return "\n\n".join(
        [
            f"# Evaluation of {checkpoint.name}",
            f"All pairs of pictures of {figures.people} people; "
            f"{'training people are included' if figures.part is None else f'part: {figures.part}'}.",
            table(("figure", "value"), rows),
            "![ROC, DET and scores](verification.png)\n",
        ]
    )


def _embed(
    encoder: torch.nn.Module, config: EmbedderConfig, crops: AlignedCrops, rows: list[int], landmarks: Tensor | None
) -> Floats:
    parts = []
    for start in track(range(0, len(rows), BATCH), description="embedding held-out people"):
        chosen = rows[start : start + BATCH]
        pictures = torch.from_numpy(np.stack([crops.pictures[row] for row in chosen]))
        points = None if landmarks is None else landmarks[chosen]
        with torch.inference_mode():
            parts.append(F.normalize(encoder(encoder_input(pictures, points, config)).float()))
    return np.asarray(torch.cat(parts).numpy(), np.float32)
