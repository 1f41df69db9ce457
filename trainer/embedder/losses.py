"""The losses of the stages. Triplets, their mining, ArcFace and CosFace are pytorch-metric-learning's."""

import torch
import torch.nn.functional as F
from pytorch_metric_learning.losses import ArcFaceLoss, CosFaceLoss, TripletMarginLoss
from pytorch_metric_learning.miners import BatchHardMiner, TripletMarginMiner
from torch import Tensor, nn

from trainer.embedder.loss_config import LossesConfig, TripletTerm

CENTRED = ("arcface", "cosface", "adaface", "softmax")
"""Losses that learn a centre for every training person."""


def embedding_distillation(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean of 1 - cosine between (N, D) embeddings of the same pictures."""
    return (1 - F.cosine_similarity(student, teacher)).mean()


def similarity_distillation(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared error between the two batches' pairwise cosines, off the diagonal (Tung and Mori 2019)."""
    student, teacher = F.normalize(student), F.normalize(teacher)
    off_diagonal = ~torch.eye(len(student), dtype=torch.bool, device=student.device)
    return F.mse_loss((student @ student.T)[off_diagonal], (teacher @ teacher.T)[off_diagonal])


class TripletLoss(nn.Module):
    """Triplets on normalised embeddings, mined in the batch.

    Batch-hard: each picture with its farthest picture of the same person and its nearest of another. Semi-hard: those
    whose negative is farther than the positive, by less than the margin.
    """

    SOFT_REACH = 0.2
    """How near a negative is semi-hard where a soft margin has no reach of its own."""

    def __init__(self, term: TripletTerm) -> None:
        super().__init__()
        soft = term.margin == "soft"
        margin = self.SOFT_REACH if term.margin == "soft" else term.margin
        self._miner = (
            BatchHardMiner() if term.mining == "batch-hard" else TripletMarginMiner(margin, type_of_triplets="semihard")
        )
        self._loss = TripletMarginLoss(margin=0.0 if soft else margin, smooth_loss=soft)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        return self._loss(embeddings, labels, self._miner(embeddings, labels))


class SoftmaxLoss(nn.Module):
    """Cross-entropy of a linear classifier on embeddings as they are, not normalised."""

    def __init__(self, people: int, embedding_dim: int, label_smoothing: float) -> None:
        super().__init__()
        self.classifier = nn.Linear(embedding_dim, people)
        self._smoothing = label_smoothing

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(self.classifier(embeddings), labels, label_smoothing=self._smoothing)


class AdaFaceLoss(nn.Module):
    """A margin that depends on the length of the embedding, which tells the quality of the picture.

    Kim, Jain and Liu, "AdaFace: Quality Adaptive Margin for Face Recognition", CVPR 2022. With the length
    standardised over recent batches to z in -1...1, the right person's logit is cos(angle - margin z) - margin (1 + z):
    a good picture has to be far on the right side, and a bad one may be near the border.
    """

    MOMENTUM = 0.01
    NEAREST = 1e-3
    """Cosines stay this far from 1 and -1, where the angle has no gradient."""

    length_mean: Tensor
    length_std: Tensor

    def __init__(self, people: int, embedding_dim: int, margin: float, concentration: float, scale: float) -> None:
        super().__init__()
        self.centres = nn.Parameter(F.normalize(torch.randn(people, embedding_dim)))
        self._margin, self._concentration, self._scale = margin, concentration, scale
        self.register_buffer("length_mean", torch.tensor(20.0))
        self.register_buffer("length_std", torch.tensor(100.0))

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        lengths = embeddings.detach().norm(dim=1).clamp(1e-3, 100)
        if self.training and len(lengths) > 1:
            self.length_mean.lerp_(lengths.mean(), self.MOMENTUM)
            self.length_std.lerp_(lengths.std(), self.MOMENTUM)
        quality = ((lengths - self.length_mean) / (self.length_std + 1e-3) * self._concentration).clamp(-1, 1)
        cosines = (F.normalize(embeddings) @ F.normalize(self.centres).T).clamp(-1 + self.NEAREST, 1 - self.NEAREST)
        angles = torch.acos(cosines.gather(1, labels[:, None])).squeeze(1)
        moved = (angles - self._margin * quality).clamp(self.NEAREST, torch.pi - self.NEAREST)
        right = torch.cos(moved) - self._margin * (1 + quality)
        return F.cross_entropy(self._scale * cosines.scatter(1, labels[:, None], right[:, None]), labels)


class StageLoss(nn.Module):
    """The weighted losses of one stage, for `people` training people.

    A teacher of another dimension is met after a linear map that is learned and thrown away (Romero et al., "FitNets",
    ICLR 2015).
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
            self.terms["softmax"] = SoftmaxLoss(people, embedding_dim, softmax.label_smoothing)

    def forward(
        self, student: Tensor, teacher: Tensor | None, labels: Tensor, progress: float = 0.0
    ) -> dict[str, Tensor]:
        """The losses by name, already weighted as they are when `progress` (0 to 1) of the stage is done.

        Args:
            student: (N, D) embeddings, not normalised.
            teacher: (N, D) embeddings of the same pictures.
            labels: (N,) numbers of people, -1 for those without names.
        """
        losses = self._distillation(student, teacher)
        for name, term in self.terms.items():
            rows = labels >= 0 if name in CENTRED else slice(None)
            # A batch of nameless people alone has no such loss, but still a gradient.
            losses[name] = term(student[rows], labels[rows]) if len(labels[rows]) else self._nothing(student)
        return {name: getattr(self._config, name).weight_at(progress) * value for name, value in losses.items()}

    def _nothing(self, student: Tensor) -> Tensor:
        return student.sum() * 0 + sum(parameter.sum() * 0 for parameter in self.parameters())

    def _distillation(self, student: Tensor, teacher: Tensor | None) -> dict[str, Tensor]:
        if not self._config.needs_teacher:
            return {}
        if teacher is None:
            raise ValueError("a distillation loss needs teacher embeddings: name one with --teacher")
        losses = {}
        if self._config.embedding is not None:
            losses["embedding"] = embedding_distillation(self.to_teacher(student), teacher)
        if self._config.similarity is not None:
            losses["similarity"] = similarity_distillation(student, teacher)
        return losses
