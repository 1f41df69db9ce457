"""The losses of a stage. Triplets, their mining, ArcFace and CosFace are those of pytorch-metric-learning."""

import torch
import torch.nn.functional as F
from pytorch_metric_learning.losses import ArcFaceLoss, CosFaceLoss, TripletMarginLoss
from pytorch_metric_learning.miners import BatchHardMiner, TripletMarginMiner
from torch import Tensor, nn

from trainer.embedder.loss_config import LossesConfig, TripletTerm
from trainer.embedder.metric_learning import build_metric_loss

LABELLED = ("arcface", "cosface", "adaface", "softmax", "metric_learning")
"""Losses of the labelled pictures of a batch."""


def embedding_distillation(student: Tensor, teacher: Tensor) -> Tensor:
    """Returns the mean of 1 - cosine between (N, D) embeddings of the same pictures."""
    return (1 - F.cosine_similarity(student, teacher)).mean()


def similarity_distillation(student: Tensor, teacher: Tensor) -> Tensor:
    """Returns the mean squared error between the pairwise cosines of two batches (Tung and Mori, ICCV 2019).

    The batches may have different embedding dimensions. The diagonal is excluded.
    """
    student, teacher = F.normalize(student), F.normalize(teacher)
    off_diagonal = ~torch.eye(len(student), dtype=torch.bool, device=student.device)
    return F.mse_loss((student @ student.T)[off_diagonal], (teacher @ teacher.T)[off_diagonal])


class TripletLoss(nn.Module):
    """Triplet loss on normalised embeddings, with triplets mined in the batch.

    Batch-hard: each picture with the farthest picture of the same person and the nearest of another person. Semi-hard:
    triplets whose negative is farther away than the positive, by less than the margin.
    """

    SOFT_MARGIN = 0.2
    """Margin of semi-hard mining if the loss has a soft margin, which has no width."""

    def __init__(self, term: TripletTerm) -> None:
        super().__init__()
        soft = term.margin == "soft"
        margin = self.SOFT_MARGIN if term.margin == "soft" else term.margin
        self._miner = (
            BatchHardMiner() if term.mining == "batch-hard" else TripletMarginMiner(margin, type_of_triplets="semihard")
        )
        self._loss = TripletMarginLoss(margin=0.0 if soft else margin, smooth_loss=soft)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        return self._loss(embeddings, labels, self._miner(embeddings, labels))


class SoftmaxLoss(nn.Module):
    """Cross-entropy of a linear classifier.

    Args:
        scale: Length to which embeddings are normalised; None: they are not normalised.
    """

    def __init__(self, people: int, embedding_dim: int, label_smoothing: float, scale: float | None = None) -> None:
        super().__init__()
        self.classifier = nn.Linear(embedding_dim, people)
        self.scale = scale
        self._smoothing = label_smoothing

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        scaled = embeddings if self.scale is None else self.scale * F.normalize(embeddings)
        return F.cross_entropy(self.classifier(scaled), labels, label_smoothing=self._smoothing)


class AdaFaceLoss(nn.Module):
    """A margin softmax whose margin depends on the embedding length, an indicator of picture quality.

    Kim, Jain and Liu, "AdaFace: Quality Adaptive Margin for Face Recognition", CVPR 2022. The length, standardised over
    recent batches, is limited to z from -1 to 1. The logit of the right person is cos(angle - margin z) -
    margin (1 + z), so a good picture has to be farther from the decision boundary than a bad one.
    """

    MOMENTUM = 0.01
    COSINE_LIMIT = 1e-3
    """Distance of cosines from 1 and -1, where the angle has no gradient."""

    length_mean: Tensor
    length_std: Tensor

    def __init__(self, people: int, embedding_dim: int, margin: float, concentration: float, scale: float) -> None:
        super().__init__()
        self.centres = nn.Parameter(F.normalize(torch.randn(people, embedding_dim)))
        self._margin, self._concentration, self.scale = margin, concentration, scale
        self.register_buffer("length_mean", torch.tensor(20.0))
        self.register_buffer("length_std", torch.tensor(100.0))

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        lengths = embeddings.detach().norm(dim=1).clamp(1e-3, 100)
        if self.training and len(lengths) > 1:
            self.length_mean.lerp_(lengths.mean(), self.MOMENTUM)
            self.length_std.lerp_(lengths.std(), self.MOMENTUM)
        quality = ((lengths - self.length_mean) / (self.length_std + 1e-3) * self._concentration).clamp(-1, 1)
        limit = 1 - self.COSINE_LIMIT
        cosines = (F.normalize(embeddings) @ F.normalize(self.centres).T).clamp(-limit, limit)
        angles = torch.acos(cosines.gather(1, labels[:, None])).squeeze(1)
        moved = (angles - self._margin * quality).clamp(self.COSINE_LIMIT, torch.pi - self.COSINE_LIMIT)
        right = torch.cos(moved) - self._margin * (1 + quality)
        return F.cross_entropy(self.scale * cosines.scatter(1, labels[:, None], right[:, None]), labels)


class StageLoss(nn.Module):
    """The weighted losses of one stage.

    If the teacher's embeddings have another dimension, a learned linear map translates the student's embeddings; it is
    discarded after training (Romero et al., "FitNets", ICLR 2015).

    Args:
        people: Number of training people.
        teacher_dim: Dimension of the teacher's embeddings; None without a teacher.
    """

    def __init__(self, losses: LossesConfig, people: int, embedding_dim: int, teacher_dim: int | None = None) -> None:
        super().__init__()
        self._config = losses
        equal = teacher_dim is None or teacher_dim == embedding_dim or losses.embedding is None
        self.to_teacher = nn.Identity() if equal else nn.Linear(embedding_dim, teacher_dim or 0, bias=False)
        self.terms = nn.ModuleDict()
        if losses.triplet is not None:
            self.terms["triplet"] = TripletLoss(losses.triplet)
        if (arcface := losses.arcface) is not None:
            self.terms["arcface"] = ArcFaceLoss(people, embedding_dim, arcface.margin_degrees, arcface.scale)
        if (cosface := losses.cosface) is not None:
            self.terms["cosface"] = CosFaceLoss(people, embedding_dim, margin=cosface.margin, scale=cosface.scale)
        if (adaface := losses.adaface) is not None:
            self.terms["adaface"] = AdaFaceLoss(
                people, embedding_dim, adaface.margin, adaface.concentration, adaface.scale
            )
        if (softmax := losses.softmax) is not None:
            self.terms["softmax"] = SoftmaxLoss(people, embedding_dim, softmax.label_smoothing, softmax.scale)
        if losses.metric_learning is not None:
            self.terms["metric_learning"] = build_metric_loss(losses.metric_learning, people, embedding_dim)

    def forward(
        self,
        student: Tensor,
        teacher: Tensor | None,
        labels: Tensor,
        progress: float = 0.0,
        map_error: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Returns the weighted losses by name.

        Args:
            student: (N, D) embeddings, not normalised.
            teacher: (N, T) embeddings of the same pictures.
            labels: (N,) numbers of people; -1 for unlabelled pictures.
            progress: Completed fraction of the stage, 0 to 1.
            map_error: Error of feature maps; None: the stage does not compare maps.
        """
        losses = self._distillation(student, teacher)
        if map_error is not None:
            losses["maps"] = map_error
        for name, term in self.terms.items():
            rows = labels >= 0 if name in LABELLED else slice(None)
            # A batch without labelled pictures has no such loss, but distributed training needs every gradient.
            losses[name] = term(student[rows], labels[rows]) if len(labels[rows]) else self._zero(student)
        return {name: getattr(self._config, name).weight_at(progress) * value for name, value in losses.items()}

    def _zero(self, student: Tensor) -> Tensor:
        return student.sum() * 0 + sum(parameter.sum() * 0 for parameter in self.parameters())

    def _distillation(self, student: Tensor, teacher: Tensor | None) -> dict[str, Tensor]:
        if not self._config.distils:
            return {}
        if teacher is None:
            raise ValueError("a distillation loss needs teacher embeddings; name a teacher with --teacher")
        losses = {}
        if self._config.embedding is not None:
            losses["embedding"] = embedding_distillation(self.to_teacher(student), teacher)
        if self._config.similarity is not None:
            losses["similarity"] = similarity_distillation(student, teacher)
        return losses
