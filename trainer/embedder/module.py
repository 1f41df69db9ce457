"""What Lightning trains: one stage of one run."""

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
    """Validated are the true accept rate at FMR 1e-3 and the rank-1 rate, over all pairs of held-out people.

    Args:
        people: who train.
        steps: of the optimiser in this stage.
        teacher_dim: of the teacher's embeddings, where there is one.
    """

    def __init__(
        self, config: EmbedderConfig, stage_index: int, people: int, steps: int, teacher_dim: int | None = None
    ) -> None:
        super().__init__()
        self.save_hyperparameters({"config": config.model_dump(mode="json"), "stage_index": stage_index})
        self._steps, self._config = steps, config
        self._seed = config.seed + stage_index
        self.stage: StageConfig = config.stages[stage_index]
        # A later stage begins with the weights of the one before.
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
        chosen = self.stage.augmentation or config.augmentation
        self._augment = Augmentation(chosen, config.input_size, config.filters, config.landmark_channels)
        self._loss = StageLoss(self.stage.losses, people, config.embedding_dim, teacher_dim)
        self._embed: list[Callable[[Tensor], Tensor]] = [self.encoder]
        self._validation: list[tuple[Tensor, Tensor]] = []
        self._hold_still()

    def forward(self, pixels: Tensor) -> Tensor:
        """(N, channels, size, size) to (N, D) embeddings, not normalised."""
        return cast("Tensor", self.encoder(pixels))

    def on_fit_start(self) -> None:
        # Not a submodule: a compiled encoder shares the weights and must not appear in the checkpoint twice. And not
        # before callbacks have copied the module, for averages.
        if not self._config.compile:
            return
        if shutil.which("g++") is None:
            rank_zero_info("torch.compile needs g++, which is not installed: training goes without it, more slowly")
            return
        self._embed = [torch.compile(self.encoder)]

    def on_train_epoch_start(self) -> None:
        self._hold_still()

    def _hold_still(self) -> None:
        if not self.stage.train_backbone:
            freeze_but(self.encoder, self.stage.unfrozen_stages)
        if self.stage.freeze_batch_norm:
            freeze_batch_norms(self.encoder)

    def training_step(self, batch: Batch, index: int) -> Tensor:
        if index == 0:
            # For the augmentation: each process changes its pictures in its own way. Not sooner: opening the epoch's
            # loader draws a number, at another moment in a run that goes on.
            torch.manual_seed(epoch_seed(self._seed, self.current_epoch) + self.global_rank)
        pixels = self._augment(batch.canvases, batch.landmarks).contiguous(memory_format=torch.channels_last)
        student, teacher, labels = self._everywhere(self._embed[0](pixels).float(), batch)
        losses = self._loss(student, teacher, labels, min(self.global_step / self._steps, 1.0))
        total = torch.stack(list(losses.values())).sum()
        self.log("loss", total, prog_bar=True)
        self.log_dict({f"loss_{name}": value for name, value in losses.items()})
        return total

    def _everywhere(self, student: Tensor, batch: Batch) -> tuple[Tensor, Tensor | None, Tensor]:
        """The batch of all processes together, since the hardest triplet may lie across them.

        Each process then has the gradient of the whole loss in its own embeddings, once for every process that it was
        gathered by; the mean over processes, which DDP takes, makes that the gradient of one process alone.
        """
        if self.trainer.world_size == 1:
            return student, batch.teacher, batch.labels
        teacher = None if batch.teacher is None else self._gathered(batch.teacher)
        return self._gathered(student, with_gradient=True), teacher, self._gathered(batch.labels)

    def _gathered(self, rows: Tensor, with_gradient: bool = False) -> Tensor:
        return cast("Tensor", self.all_gather(rows, sync_grads=with_gradient)).flatten(0, 1)

    def validation_step(self, batch: Batch, _: int) -> None:
        embeddings = self.encoder(encoder_input(batch.canvases, batch.landmarks, self._config)).float()
        self._validation.append((F.normalize(embeddings).cpu(), batch.labels.cpu()))

    def on_validation_epoch_end(self) -> None:
        embeddings = torch.cat([embeddings for embeddings, _ in self._validation]).numpy()
        labels = torch.cat([labels for _, labels in self._validation]).numpy()
        self._validation.clear()
        scores = all_pairs(embeddings, [str(label) for label in labels])
        # Few people can't tell a rare false match; then the checkpoint is chosen at a more frequent one.
        rate = scores.true_accept_rate(scores.threshold_at(scores.told(VALIDATION_FMR)))
        first = top_k_rate(embeddings, labels.tolist(), 1)
        self.log("tar_at_fmr_1e-3", rate, prog_bar=True)
        self.log("rank_1", first)
        self.print(
            f"{self.stage.name}: epoch {self.current_epoch + 1}, held-out people: TAR {rate:.4f} at FMR 1e-3, "
            f"rank 1 {first:.4f}"
        )

    def configure_optimizers(self) -> Any:
        optimizer = build_optimizer(self.stage, self.parameters())
        # Lightning's own estimate would draw the first epoch's order before a checkpoint says which epoch it is.
        schedule = build_schedule(self.stage, optimizer, self._steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
