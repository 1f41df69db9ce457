"""Fits a closed-set classifier on the embeddings of an embedder."""

import hashlib
from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression

from service.inference.embedder import FaceEmbedder
from trainer.classifier.config import ClassifierConfig
from trainer.configuration import ConfigError
from trainer.embedder.aligned_crops import AlignedCrops
from trainer.embedder.embedding import embed_crops

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Division:
    """The rows to fit and the rows to measure.

    Attributes:
        numbers: For each row the index of its person in `labels`; -1 for excluded people.
    """

    fit: list[int]
    measure: list[int]
    numbers: npt.NDArray[np.int64]
    labels: list[str]


def divide(crops: AlignedCrops, config: ClassifierConfig) -> Division:
    """Divides the pictures of each person with enough of them; at least one is measured and one is fitted.

    Raises:
        ConfigError: Fewer than two people have enough pictures.
    """
    counts = Counter(crops.identities)
    labels = sorted(name for name, count in counts.items() if name and count >= config.min_images_per_class)
    if len(labels) < 2:
        raise ConfigError(
            f"fewer than two people have {config.min_images_per_class} pictures; lower min_images_per_class"
        )
    rows_of: dict[str, list[int]] = {label: [] for label in labels}
    for row, name in enumerate(crops.identities):
        if name in rows_of:
            rows_of[name].append(row)
    fit, measure = [], []
    for rows in rows_of.values():
        shuffled = sorted(rows, key=lambda row: hashlib.sha256(crops.files[row].name.encode()).digest())
        held_out = min(max(1, round(config.held_back * len(rows))), len(rows) - 1)
        measure += shuffled[:held_out]
        fit += shuffled[held_out:]
    numbers = np.array([labels.index(name) if name in rows_of else -1 for name in crops.identities])
    return Division(sorted(fit), sorted(measure), numbers, labels)


def fit(
    embedder: FaceEmbedder, crops: AlignedCrops, division: Division, config: ClassifierConfig
) -> tuple[Floats, Floats]:
    """Returns the weights (people, D) and the bias (people,) of a multinomial logistic regression."""
    embeddings = [embed_crops(embedder, crops, division.fit)[0]]
    if config.mirrored:
        embeddings.append(embed_crops(embedder, crops, division.fit, mirrored=True)[0])
    numbers = np.tile(division.numbers[division.fit], len(embeddings))
    model = LogisticRegression(C=config.inverse_regularisation, max_iter=config.steps)
    model.fit(np.concatenate(embeddings), numbers)
    weights, bias = np.asarray(model.coef_, np.float32), np.asarray(model.intercept_, np.float32)
    if len(division.labels) > 2:
        return weights, bias
    half = np.float32(0.5)  # for two people scikit-learn returns one row: the second person against the first
    return np.concatenate([-half * weights, half * weights]), np.concatenate([-half * bias, half * bias])
