"""The closed-set classifier that a loss with a centre for each person learns."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from pytorch_metric_learning.losses import ArcFaceLoss, CosFaceLoss
from torch import Tensor, nn

from trainer.embedder.losses import AdaFaceLoss, SoftmaxLoss


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
