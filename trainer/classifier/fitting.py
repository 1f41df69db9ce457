"""Fits and measures a closed-set classifier on an embedder's embeddings."""

import hashlib
from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression

from service.inference.embedder import FaceEmbedder
from trainer.classifier.config import ClassifierConfig
from trainer.configuration import ConfigError
from trainer.embedder.canvases import CanvasSet
from trainer.embedder.embedding import embed_canvases

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Division:
    """Rows to fit on and rows to measure on, and the number of each row's person in `labels`."""

    fit: list[int]
    measure: list[int]
    numbers: npt.NDArray[np.int64]
    labels: list[str]


def divide(canvases: CanvasSet, config: ClassifierConfig) -> Division:
    """Of every person with enough pictures some to fit on and at least one to measure on.

    Raises:
        ConfigError: fewer than two people have enough pictures.
    """
    counts = Counter(canvases.identities)
    labels = sorted(name for name, count in counts.items() if name and count >= config.min_images_per_class)
    if len(labels) < 2:
        raise ConfigError(
            f"fewer than two people have {config.min_images_per_class} pictures: lower min_images_per_class"
        )
    places: dict[str, list[int]] = {label: [] for label in labels}
    for row, name in enumerate(canvases.identities):
        if name in places:
            places[name].append(row)
    fit, measure = [], []
    for rows in places.values():
        drawn = sorted(rows, key=lambda row: hashlib.sha256(canvases.files[row].name.encode()).digest())
        kept_back = min(max(1, round(config.held_back * len(rows))), len(rows) - 1)
        measure += drawn[:kept_back]
        fit += drawn[kept_back:]
    numbers = np.array([labels.index(name) if name in places else -1 for name in canvases.identities])
    return Division(sorted(fit), sorted(measure), numbers, labels)


def fit(
    embedder: FaceEmbedder, canvases: CanvasSet, division: Division, config: ClassifierConfig
) -> tuple[Floats, Floats]:
    """Weights (people, D) and bias (people,) of a multinomial logistic regression."""
    known = [embed_canvases(embedder, canvases, division.fit)[0]]
    if config.mirrored:
        known.append(embed_canvases(embedder, canvases, division.fit, mirrored=True)[0])
    numbers = np.tile(division.numbers[division.fit], len(known))
    model = LogisticRegression(C=config.inverse_regularisation, max_iter=config.steps)
    model.fit(np.concatenate(known), numbers)
    weights, bias = np.asarray(model.coef_, np.float32), np.asarray(model.intercept_, np.float32)
    if len(division.labels) > 2:
        return weights, bias
    half = np.float32(0.5)  # of two people scikit-learn has one row, for the second against the first
    return np.concatenate([-half * weights, half * weights]), np.concatenate([-half * bias, half * bias])
