"""The table from false match rates to thresholds, measured on people that the model never saw."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from rich.progress import track

from service.inference.bundle import Calibration, CalibrationPoint
from service.inference.embedder import FaceEmbedder
from trainer.embedder.augmentation import CROP
from trainer.embedder.canvases import CANVAS, NAMELESS, CanvasSet
from trainer.embedder.config import SplitConfig
from trainer.embedder.scores import PairScores, all_pairs
from trainer.embedder.split import Part, part_of

Floats = npt.NDArray[np.float32]
RATES = (0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 3e-4, 1e-4, 3e-5, 1e-5, 3e-6, 1e-6)
FEWEST_ABOVE = 10
"""Impostor pairs that must lie above a threshold for its rate to be called measured."""
MAX_PER_IDENTITY = 20
"""Pictures of one person that take part, so that few people with many pictures do not make the table."""
BATCH = 32


@dataclass(frozen=True)
class Sample:
    """One group of canvases within which pairs are made: pairs across collections of pictures are too easy."""

    canvases: CanvasSet
    rows: list[int]
    identities: list[str]


def calibrate(embedder: FaceEmbedder, samples: list[Sample], precision: str, data: str) -> Calibration:
    """Measure thresholds on all pairs within each sample."""
    scores = [all_pairs(_embed(embedder, sample), sample.identities) for sample in samples]
    pooled = PairScores(
        np.concatenate([part.genuine for part in scores]), np.concatenate([part.impostor for part in scores])
    )
    points = []
    for rate in RATES:
        if rate * len(pooled.impostor) < FEWEST_ABOVE:
            break
        threshold = pooled.threshold_at(rate)
        points.append(
            CalibrationPoint(
                fmr=rate, threshold=round(threshold, 5), fnmr=round(1 - pooled.true_accept_rate(threshold), 5)
            )
        )
    return Calibration(
        precision=precision,
        impostor_pairs=len(pooled.impostor),
        genuine_pairs=len(pooled.genuine),
        data=data,
        points=points,
    )


def named_sample(canvases: CanvasSet, split: SplitConfig) -> Sample:
    """The pictures of the people that the split keeps for calibration."""
    rows, counts = [], dict[str, int]()
    for row, name in enumerate(canvases.identities):
        if part_of(name, split) is not Part.CALIBRATION:
            continue
        counts[name] = counts.get(name, 0) + 1
        if counts[name] <= MAX_PER_IDENTITY:
            rows.append(row)
    return Sample(canvases, rows, [canvases.identities[row] for row in rows])


def nameless_sample(canvases: CanvasSet) -> Sample:
    """Pictures of people without names that did not train, each taken for a person of its own."""
    rows = [row for row, name in enumerate(canvases.identities) if name == NAMELESS]
    return Sample(canvases, rows, [f"#{row}" for row in rows])


def _embed(embedder: FaceEmbedder, sample: Sample) -> Floats:
    margin = (CANVAS - CROP) // 2
    middle = slice(margin, margin + CROP)
    parts = []
    for start in track(range(0, len(sample.rows), BATCH), description="embedding for calibration"):
        crops = [sample.canvases.pictures[row, middle, middle] for row in sample.rows[start : start + BATCH]]
        parts.append(embedder.embed(crops))
    return np.concatenate(parts)
