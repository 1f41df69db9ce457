"""The closed-set classifier that a loss with a centre for each person learns."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from pytorch_metric_learning.losses import ArcFaceLoss, CosFaceLoss
from torch import Tensor, nn

from trainer.embedder.augmentation import encoder_input
from trainer.embedder.config import EmbedderConfig
from trainer.embedder.data import FaceData
from trainer.embedder.losses import AdaFaceLoss, SoftmaxLoss

PICTURES_OF_CENTROID = 20
BATCH = 64


@dataclass(frozen=True)
class LinearClassifier:
    """A linear layer from embeddings to the logits of P people.

    Attributes:
        weights: (P, D).
        bias: (P,).
        normalised: the layer expects normalised embeddings.
    """

    weights: Tensor
    bias: Tensor
    normalised: bool

    def logits(self, embeddings: Tensor) -> Tensor:
        """Returns (N, P) logits of (N, D) embeddings, which are not normalised."""
        return F.linear(F.normalize(embeddings) if self.normalised else embeddings, self.weights, self.bias)


def classifier_of(terms: Mapping[str, nn.Module]) -> LinearClassifier | None:
    """Returns the classifier of the first loss that has one; None if no loss learns a centre for each person."""
    for term in terms.values():
        if isinstance(term, SoftmaxLoss):
            scale = 1.0 if term.scale is None else term.scale
            return LinearClassifier(scale * term.classifier.weight, term.classifier.bias, term.scale is not None)
        if isinstance(term, ArcFaceLoss | CosFaceLoss):
            return _of_centres(cast("Tensor", term.W).T, float(term.scale))
        if isinstance(term, AdaFaceLoss):
            return _of_centres(term.centres, term.scale)
    return None


def _of_centres(centres: Tensor, scale: float) -> LinearClassifier:
    weights = scale * F.normalize(centres)
    return LinearClassifier(weights, torch.zeros(len(weights), device=weights.device), True)


def imprint(terms: Mapping[str, nn.Module], centroids: Tensor) -> None:
    """Starts each classifier with the (P, D) normalised centroids of the people (Qi, Brown and Lowe, CVPR 2018).

    A classifier of normalised embeddings then decides as the nearest centroid does, before it is trained.
    """
    with torch.no_grad():
        for term in terms.values():
            if isinstance(term, SoftmaxLoss) and term.scale is not None:
                term.classifier.weight.copy_(centroids)
                term.classifier.bias.zero_()
            elif isinstance(term, ArcFaceLoss | CosFaceLoss):
                cast("Tensor", term.W).copy_(centroids.T)
            elif isinstance(term, AdaFaceLoss):
                term.centres.copy_(centroids)


def centroids_of(encoder: nn.Module, config: EmbedderConfig, data: FaceData) -> Tensor:
    """Returns the (P, D) normalised centroids of the training pictures, at most 20 of each person."""
    was_training = encoder.training
    sums: Tensor | None = None
    counts = np.zeros(data.people, int)
    rows = []
    for row in data.training_rows:
        label = data.labels[row]
        if 0 <= label < data.people and counts[label] < PICTURES_OF_CENTROID:
            counts[label] += 1
            rows.append(int(row))
    encoder.eval()
    for start in range(0, len(rows), BATCH):
        chosen = rows[start : start + BATCH]
        pictures = torch.from_numpy(np.stack([data.crops.pictures[row] for row in chosen]))
        with torch.inference_mode():
            embeddings = F.normalize(encoder(encoder_input(pictures, None, config)).float())
        sums = torch.zeros(data.people, embeddings.shape[1]) if sums is None else sums
        sums.index_add_(0, torch.from_numpy(data.labels[chosen]), embeddings)
    encoder.train(was_training)
    assert sums is not None
    return F.normalize(sums)
