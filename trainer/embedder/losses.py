"""The losses of the stages. The batch-hard miner and the triplet margin loss are pytorch-metric-learning's."""

import torch
import torch.nn.functional as F
from pytorch_metric_learning.losses import ArcFaceLoss, TripletMarginLoss
from pytorch_metric_learning.miners import BatchHardMiner
from torch import Tensor, nn

from trainer.embedder.config import StageConfig


def embedding_distillation(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean of 1 - cosine between (N, D) embeddings of the same pictures."""
    return (1 - F.cosine_similarity(student, teacher)).mean()


def similarity_distillation(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared error between the two batches' pairwise cosines, off the diagonal (Tung and Mori 2019)."""
    student, teacher = F.normalize(student), F.normalize(teacher)
    off_diagonal = ~torch.eye(len(student), dtype=torch.bool, device=student.device)
    return F.mse_loss((student @ student.T)[off_diagonal], (teacher @ teacher.T)[off_diagonal])


class StageLoss(nn.Module):
    """The weighted losses of one stage.

    Batch-hard (Hermans et al. 2017): each picture with its farthest picture of the same person and its nearest of
    another, on normalised embeddings. ArcFace (Deng et al. 2019) has a learned centre for each of `people`.
    """

    def __init__(self, stage: StageConfig, people: int, embedding_dim: int) -> None:
        super().__init__()
        self._weights = stage.losses
        self._miner = BatchHardMiner()
        self._triplet = TripletMarginLoss(margin=stage.triplet_margin)
        self._arcface = (
            ArcFaceLoss(people, embedding_dim, stage.arcface_margin_degrees, stage.arcface_scale)
            if stage.losses.arcface
            else None
        )

    def forward(self, student: Tensor, teacher: Tensor | None, labels: Tensor) -> dict[str, Tensor]:
        """The losses by name, already weighted; their sum is what is minimised."""
        weights, losses = self._weights, {}
        if weights.needs_teacher and teacher is None:
            raise ValueError("a distillation loss needs teacher embeddings: name one with --teacher")
        if weights.embedding and teacher is not None:
            losses["embedding"] = weights.embedding * embedding_distillation(student, teacher)
        if weights.similarity and teacher is not None:
            losses["similarity"] = weights.similarity * similarity_distillation(student, teacher)
        if weights.triplet:
            losses["triplet"] = weights.triplet * self._triplet(student, labels, self._miner(student, labels))
        if self._arcface is not None:
            named = labels >= 0
            angular = self._arcface(student[named], labels[named]) if named.any() else student.sum() * 0
            losses["arcface"] = weights.arcface * angular
        return losses
