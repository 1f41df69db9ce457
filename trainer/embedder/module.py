"""The Lightning module: trains and validates one stage of a run."""

import logging
import shutil
from collections.abc import Callable, Sequence
from typing import Any, cast

import lightning
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from service.vision.heatmaps import MIRRORED
from trainer.embedder.augmentation import Augmentation, encoder_input
from trainer.embedder.backbones import build_encoder, channels_last, freeze_batch_norms, freeze_but
from trainer.embedder.classification import LinearClassifier, classifier_of
from trainer.embedder.config import EmbedderConfig
from trainer.embedder.data import Batch, epoch_seed
from trainer.embedder.losses import StageLoss
from trainer.embedder.map_distillation import MapDistillation, MapTargets
from trainer.embedder.optimisation import build_optimizer, build_schedule
from trainer.embedder.scores import MIN_PAIRS_ABOVE, all_pairs, top_k_rate
from trainer.embedder.stage_config import StageConfig

VALIDATION_FMR = 1e-3
log = logging.getLogger(__name__)
TOP = 3


class EmbedderModule(lightning.LightningModule):
    """Trains the encoder with the losses of one stage.

    Validation measures the true accept rate at FMR 1e-3 and the rank-1 rate over all pairs of validation people.

    Args:
        people: Number of training people.
        steps: Number of optimiser steps in this stage.
        teacher_dim: Dimension of the teacher's embeddings; None without a teacher.
        maps: Compares the feature maps of the encoder, a slim network, with those of another one.
        mirror_order: Order of the landmarks in a mirror image.
    """

    def __init__(
        self,
        config: EmbedderConfig,
        stage_index: int,
        people: int,
        steps: int,
        teacher_dim: int | None = None,
        mirror_order: Sequence[int] = MIRRORED,
        maps: MapDistillation | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters({"config": config.model_dump(mode="json"), "stage_index": stage_index})
        self._steps, self._config = steps, config
        self._seed = config.seed + stage_index
        self.stage: StageConfig = config.stages[stage_index]
        # A later stage starts with the weights of the stage before.
        published = config.pretrained if stage_index == 0 else False
        encoder = build_encoder(
            config.backbone,
            config.embedding_dim,
            config.input_size,
            config.dropout,
            published,
            config.more_channels,
            config.pixel_statistics,
        )
        self.encoder = channels_last(encoder)
        augmentation = self.stage.augmentation or config.augmentation
        self._augment = Augmentation(augmentation, config.input_size, config.landmark_channels, mirror_order)
        self._loss = StageLoss(self.stage.losses, people, config.embedding_dim, teacher_dim)
        self._maps = maps
        self._embed: list[Callable[[Tensor], Tensor]] = [self.encoder]
        self._compare: list[Callable[..., MapTargets]] = [] if maps is None else [maps]
        self._validation: list[tuple[Tensor, Tensor]] = []
        self._freeze()

    @property
    def loss(self) -> StageLoss:
        return self._loss

    def forward(self, pixels: Tensor) -> Tensor:
        """Maps (N, channels, size, size) normalised pictures to (N, D) embeddings, not normalised."""
        return cast("Tensor", self.encoder(pixels))

    def on_fit_start(self) -> None:
        # The compiled encoder is not a submodule: it shares the weights, and they must not appear in the checkpoint
        # twice. It is compiled here, after callbacks have copied the module for weight averaging.
        if not self._config.compile:
            return
        if shutil.which("g++") is None:
            _warn("torch.compile needs g++, which is not installed; training continues without it, slower")
            return
        if self._maps is None:
            self._embed = [torch.compile(self.encoder)]
        else:
            self._compare = [torch.compile(self._maps)]

    def on_train_epoch_start(self) -> None:
        self._freeze()

    def _freeze(self) -> None:
        if not self.stage.train_backbone:
            freeze_but(self.encoder, self.stage.unfrozen_stages, self._config.input_size)
        if self.stage.freeze_batch_norm:
            freeze_batch_norms(self.encoder)

    def training_step(self, batch: Batch, index: int) -> Tensor:
        if index == 0:
            # Seeds the augmentation; each process changes its pictures differently. It happens here because opening
            # the epoch's loader draws a random number, at another moment in a resumed run.
            torch.manual_seed(epoch_seed(self._seed, self.current_epoch) + self.global_rank)
        pixels = self._augment(batch.crops, batch.landmarks).contiguous(memory_format=torch.channels_last)
        embeddings, targets, map_error = self._compared(pixels, batch.teacher)
        student, teacher, labels = self._gather_batch(embeddings, targets, batch.labels)
        losses = self._loss(student, teacher, labels, min(self.global_step / self._steps, 1.0), map_error)
        total = torch.stack(list(losses.values())).sum()
        self.log("loss", total, prog_bar=True)
        self.log_dict({f"loss_{name}": value for name, value in losses.items()})
        return total

    def _compared(self, pixels: Tensor, teacher: Tensor | None) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Returns embeddings, those of the teacher and the error of feature maps, as far as the stage compares them."""
        if self._maps is None:
            return self._embed[0](pixels).float(), teacher, None
        compared = self._compare[0](self.encoder, pixels, self._maps.projections(pixels))
        return compared.embeddings.float(), compared.published.float(), compared.error

    def _gather_batch(
        self, student: Tensor, teacher: Tensor | None, labels: Tensor
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """Returns the batch of all processes, since the hardest triplet may extend over several processes.

        Each process computes the whole loss. Its embeddings receive the gradient once from every process; the mean
        over processes, which DDP computes, is then the gradient of a single process.
        """
        if self.trainer.world_size == 1:
            return student, teacher, labels
        gathered = None if teacher is None else self._gather(teacher)
        return self._gather(student, with_gradient=True), gathered, self._gather(labels)

    def _gather(self, rows: Tensor, with_gradient: bool = False) -> Tensor:
        return cast("Tensor", self.all_gather(rows, sync_grads=with_gradient)).flatten(0, 1)

    def validation_step(self, batch: Batch, _: int) -> None:
        embeddings = self.encoder(encoder_input(batch.crops, batch.landmarks, self._config)).float()
        self._validation.append((embeddings.cpu(), batch.labels.cpu()))

    def on_validation_epoch_end(self) -> None:
        raw, labels = (torch.cat(parts) for parts in zip(*self._validation, strict=True))
        self._validation.clear()
        self._log_pairs(F.normalize(raw).numpy(), labels.tolist())
        if (
            self._config.split.by == "picture"
            and (classifier := classifier_of(dict(self._loss.terms.items()))) is not None
        ):
            self._log_classification(classifier, raw, labels)

    def _log_pairs(self, embeddings: Any, labels: list[int]) -> None:
        scores = all_pairs(embeddings, [str(label) for label in labels])
        if not len(scores.genuine) or len(scores.impostor) <= MIN_PAIRS_ABOVE:  # a closed set with few pictures
            return
        # With few people FMR 1e-3 is not measurable; the lowest measurable rate then selects the checkpoint.
        fmr = scores.measurable_fmr(VALIDATION_FMR)
        self.log("tar", scores.true_accept_rate(scores.threshold_at(fmr)), prog_bar=True)
        self.log("tar_fmr", fmr)
        self.log("rank_1", top_k_rate(embeddings, labels, 1))

    def _log_classification(self, classifier: LinearClassifier, embeddings: Tensor, labels: Tensor) -> None:
        logits = classifier.logits(embeddings.to(classifier.weights.device)).cpu()
        ranked = logits.topk(min(TOP, logits.shape[1])).indices
        self.log("validation_loss", F.cross_entropy(logits, labels), prog_bar=True)
        self.log("accuracy", (ranked[:, 0] == labels).float().mean(), prog_bar=True)
        self.log(f"top_{TOP}", (ranked == labels[:, None]).any(1).float().mean())

    def configure_optimizers(self) -> Any:
        optimizer = build_optimizer(self.stage, self.parameters())
        # Lightning's own estimate of the steps would draw the first epoch's order before a checkpoint restores the
        # number of the epoch.
        schedule = build_schedule(self.stage, optimizer, self._steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


@rank_zero_only
def _warn(message: str) -> None:
    log.warning(message)
