"""The Lightning module: trains and validates one stage of a run."""

import shutil
from collections.abc import Callable
from typing import Any, cast

import lightning
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from trainer.embedder.augmentation import Augmentation, encoder_input
from trainer.embedder.backbones import build_encoder, channels_last, freeze_batch_norms, freeze_but
from trainer.embedder.config import EmbedderConfig, StageConfig
from trainer.embedder.data import Batch, epoch_seed
from trainer.embedder.losses import StageLoss
from trainer.embedder.optimisation import build_optimizer, build_schedule
from trainer.embedder.scores import all_pairs, top_k_rate

VALIDATION_FMR = 1e-3


class EmbedderModule(lightning.LightningModule):
    """Trains the encoder with the losses of one stage.

    Validation measures the true accept rate at FMR 1e-3 and the rank-1 rate over all pairs of validation people.

    Args:
        people: Number of training people.
        steps: Number of optimiser steps in this stage.
        teacher_dim: Dimension of the teacher's embeddings; None without a teacher.
    """

    def __init__(
        self, config: EmbedderConfig, stage_index: int, people: int, steps: int, teacher_dim: int | None = None
    ) -> None:
        super().__init__()
        self.save_hyperparameters({"config": config.model_dump(mode="json"), "stage_index": stage_index})
        self._steps, self._config = steps, config
        self._seed = config.seed + stage_index
        self.stage: StageConfig = config.stages[stage_index]
        # A later stage starts with the weights of the stage before.
        published = config.pretrained and stage_index == 0
        encoder = build_encoder(
            config.backbone,
            config.embedding_dim,
            config.input_size,
            config.dropout,
            published,
            config.more_channels,
        )
        self.encoder = channels_last(encoder)
        augmentation = self.stage.augmentation or config.augmentation
        self._augment = Augmentation(augmentation, config.input_size, config.filters, config.landmark_channels)
        self._loss = StageLoss(self.stage.losses, people, config.embedding_dim, teacher_dim)
        self._embed: list[Callable[[Tensor], Tensor]] = [self.encoder]
        self._validation: list[tuple[Tensor, Tensor]] = []
        self._freeze()

    def forward(self, pixels: Tensor) -> Tensor:
        """Maps (N, channels, size, size) normalised pictures to (N, D) embeddings, not normalised."""
        return cast("Tensor", self.encoder(pixels))

    def on_fit_start(self) -> None:
        # The compiled encoder is not a submodule: it shares the weights, and they must not appear in the checkpoint
        # twice. It is compiled here, after callbacks have copied the module for weight averaging.
        if not self._config.compile:
            return
        if shutil.which("g++") is None:
            rank_zero_info("torch.compile needs g++, which is not installed; training continues without it, slower")
            return
        self._embed = [torch.compile(self.encoder)]

    def on_train_epoch_start(self) -> None:
        self._freeze()

    def _freeze(self) -> None:
        if not self.stage.train_backbone:
            freeze_but(self.encoder, self.stage.unfrozen_stages)
        if self.stage.freeze_batch_norm:
            freeze_batch_norms(self.encoder)

    def training_step(self, batch: Batch, index: int) -> Tensor:
        if index == 0:
            # Seeds the augmentation; each process changes its pictures differently. It happens here because opening
            # the epoch's loader draws a random number, at another moment in a resumed run.
            torch.manual_seed(epoch_seed(self._seed, self.current_epoch) + self.global_rank)
        pixels = self._augment(batch.crops, batch.landmarks).contiguous(memory_format=torch.channels_last)
        student, teacher, labels = self._gather_batch(self._embed[0](pixels).float(), batch)
        losses = self._loss(student, teacher, labels, min(self.global_step / self._steps, 1.0))
        total = torch.stack(list(losses.values())).sum()
        self.log("loss", total, prog_bar=True)
        self.log_dict({f"loss_{name}": value for name, value in losses.items()})
        return total

    def _gather_batch(self, student: Tensor, batch: Batch) -> tuple[Tensor, Tensor | None, Tensor]:
        """Returns the batch of all processes, since the hardest triplet may extend over several processes.

        Each process computes the whole loss. Its embeddings receive the gradient once from every process; the mean
        over processes, which DDP computes, is then the gradient of a single process.
        """
        if self.trainer.world_size == 1:
            return student, batch.teacher, batch.labels
        teacher = None if batch.teacher is None else self._gather(batch.teacher)
        return self._gather(student, with_gradient=True), teacher, self._gather(batch.labels)

    def _gather(self, rows: Tensor, with_gradient: bool = False) -> Tensor:
        return cast("Tensor", self.all_gather(rows, sync_grads=with_gradient)).flatten(0, 1)

    def validation_step(self, batch: Batch, _: int) -> None:
        embeddings = self.encoder(encoder_input(batch.crops, batch.landmarks, self._config)).float()
        self._validation.append((F.normalize(embeddings).cpu(), batch.labels.cpu()))

    def on_validation_epoch_end(self) -> None:
        embeddings = torch.cat([embeddings for embeddings, _ in self._validation]).numpy()
        labels = torch.cat([labels for _, labels in self._validation]).numpy()
        self._validation.clear()
        scores = all_pairs(embeddings, [str(label) for label in labels])
        # With few people FMR 1e-3 is not measurable; the lowest measurable rate then selects the checkpoint.
        rate = scores.true_accept_rate(scores.threshold_at(scores.measurable_fmr(VALIDATION_FMR)))
        rank_1 = top_k_rate(embeddings, labels.tolist(), 1)
        self.log("tar_at_fmr_1e-3", rate, prog_bar=True)
        self.log("rank_1", rank_1)
        self.print(
            f"{self.stage.name}: epoch {self.current_epoch + 1}, validation people: TAR {rate:.4f} at FMR 1e-3, "
            f"rank 1 {rank_1:.4f}"
        )

    def configure_optimizers(self) -> Any:
        optimizer = build_optimizer(self.stage, self.parameters())
        # Lightning's own estimate of the steps would draw the first epoch's order before a checkpoint restores the
        # number of the epoch.
        schedule = build_schedule(self.stage, optimizer, self._steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
