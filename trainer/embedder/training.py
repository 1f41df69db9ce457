"""Trains an embedder stage by stage with Lightning: usually distillation, then batch-hard triplets."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch import Tensor

from service.inference.bundle import file_sha256
from trainer.embedder.augmentation import Augmentation, centre_crop, normalise
from trainer.embedder.backbones import build_encoder, channels_last, freeze_batch_norms
from trainer.embedder.canvases import CanvasSet
from trainer.embedder.config import ConfigError, EmbedderConfig, StageConfig
from trainer.embedder.data import Batch, FaceData, epoch_seed
from trainer.embedder.losses import StageLoss
from trainer.embedder.mobilefacenet import load_published
from trainer.embedder.scores import all_pairs
from trainer.embedder.teacher import teacher_embeddings

VALIDATION_FMR = 1e-3


class EmbedderModule(lightning.LightningModule):
    """One stage of one run. Validation is the true accept rate at FMR 1e-3 over all pairs of held-out people."""

    def __init__(self, config: EmbedderConfig, stage_index: int, people: int, steps: int) -> None:
        super().__init__()
        self.save_hyperparameters({"config": config.model_dump(mode="json"), "stage_index": stage_index})
        self._steps = steps
        self._seed = config.seed + stage_index
        self.stage: StageConfig = config.stages[stage_index]
        self.encoder = channels_last(build_encoder(config.backbone, config.embedding_dim))
        self._augment = Augmentation(self.stage.augmentation or config.augmentation)
        self._loss = StageLoss(self.stage, people, config.embedding_dim)
        # Not a submodule: a compiled encoder shares the weights and must not appear in the checkpoint twice.
        self._forward = [torch.compile(self.encoder) if config.compile and shutil.which("g++") else self.encoder]
        self._validation: list[tuple[Tensor, Tensor]] = []

    def forward(self, pixels: Tensor) -> Tensor:
        """(N, 3, 112, 112) to (N, D) embeddings, not normalised."""
        return self.encoder(pixels)

    def on_train_epoch_start(self) -> None:
        torch.manual_seed(epoch_seed(self._seed, self.current_epoch))  # for the augmentation
        if self.stage.freeze_batch_norm:
            freeze_batch_norms(self.encoder)

    def training_step(self, batch: Batch, _: int) -> Tensor:
        pixels = self._augment(batch.canvases).contiguous(memory_format=torch.channels_last)
        losses = self._loss(self._forward[0](pixels).float(), batch.teacher, batch.labels)
        total = torch.stack(list(losses.values())).sum()
        self.log("loss", total, prog_bar=True)
        self.log_dict({f"loss_{name}": value for name, value in losses.items()})
        return total

    def validation_step(self, batch: Batch, _: int) -> None:
        embeddings = self.encoder(normalise(centre_crop(batch.canvases))).float()
        self._validation.append((F.normalize(embeddings).cpu(), batch.labels.cpu()))

    def on_validation_epoch_end(self) -> None:
        embeddings = torch.cat([embeddings for embeddings, _ in self._validation]).numpy()
        labels = torch.cat([labels for _, labels in self._validation]).numpy()
        self._validation.clear()
        if self.trainer.sanity_checking:
            return
        scores = all_pairs(embeddings, [str(label) for label in labels])
        rate = scores.true_accept_rate(scores.threshold_at(self._validation_fmr(len(scores.impostor))))
        self.log("tar_at_fmr_1e-3", rate, prog_bar=True)
        self.print(f"{self.stage.name}: epoch {self.current_epoch + 1}, held-out people: TAR {rate:.4f} at FMR 1e-3")

    @staticmethod
    def _validation_fmr(pairs: int) -> float:
        """Few people can't tell a rare false match; then the checkpoint is chosen at a more frequent one."""
        return max(VALIDATION_FMR, 11 / max(pairs, 11))

    def configure_optimizers(self) -> Any:
        stage = self.stage
        optimizer = torch.optim.AdamW(self.parameters(), lr=stage.learning_rate, weight_decay=stage.weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            stage.learning_rate,
            # Lightning's own estimate would draw the first epoch's order before a checkpoint says which epoch it is.
            total_steps=self._steps,
            pct_start=stage.warm_up,
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def train(
    config: EmbedderConfig,
    canvases: CanvasSet,
    teacher: Path | None,
    cache: Path,
    output: Path,
    initial: Path | None = None,
    device: str = "auto",
) -> Path:
    """Run every stage, each from the best checkpoint of the one before, and return the last one's best.

    A stage that is complete is skipped and one that was cut off goes on from its last checkpoint, so that the same
    command resumes a run.

    Raises:
        ValueError: a stage distils and no teacher is given.
    """
    if teacher is None and any(stage.losses.needs_teacher for stage in config.stages):
        raise ValueError("a stage of this configuration distils: name a teacher with --teacher")
    _require_same_run(output, config, canvases, teacher, initial)
    targets = None if teacher is None else teacher_embeddings(teacher, canvases, cache)
    best = initial
    for index in range(len(config.stages)):
        best = _train_stage(config, index, canvases, targets, output, best, device)
    assert best is not None
    return best


def _require_same_run(
    output: Path, config: EmbedderConfig, canvases: CanvasSet, teacher: Path | None, initial: Path | None
) -> None:
    """A folder holds one run: other data or settings would silently go on with, or export, what is there.

    Raises:
        ConfigError: the folder holds another run.
    """
    described = {
        "config": config.model_dump(mode="json"),
        "pictures": hashlib.sha256("\n".join(canvases.identities).encode()).hexdigest(),
        "teacher": None if teacher is None else file_sha256(teacher),
        "initial": None if initial is None else file_sha256(initial),
    }
    file = output / "run.json"
    if not file.exists():
        output.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(described, indent=2) + "\n")
        return
    known = json.loads(file.read_text())
    if changed := [name for name, value in described.items() if known.get(name) != value]:
        raise ConfigError(
            f"{output} holds a run with another {' and another '.join(changed)}: name another folder with --output, or "
            "remove it"
        )


def load_encoder(checkpoint: Path) -> tuple[torch.nn.Module, EmbedderConfig]:
    """The encoder of a checkpoint, in evaluation mode, and the configuration that trained it."""
    saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
    config = EmbedderConfig.model_validate(saved["hyper_parameters"]["config"])
    encoder = build_encoder(config.backbone, config.embedding_dim)
    encoder.load_state_dict(_encoder_weights(saved))
    return encoder.eval(), config


def _train_stage(
    config: EmbedderConfig,
    index: int,
    canvases: CanvasSet,
    targets: "np.ndarray[Any, np.dtype[np.float32]] | None",
    output: Path,
    initial: Path | None,
    device: str,
) -> Path:
    stage = config.stages[index]
    folder = output / f"{index + 1}-{stage.name}"
    finished = folder / "finished.json"
    if finished.exists():
        return folder / str(json.loads(finished.read_text())["best"])
    lightning.seed_everything(config.seed + index, workers=True)
    data = FaceData(canvases, targets, config.split, stage, config.seed + index)
    module = EmbedderModule(config, index, data.people, stage.epochs * data.steps_per_epoch)
    if initial is not None:
        load_initial(module.encoder, initial)
    data.require_enough()
    validates = data.can_validate
    checkpoints = ModelCheckpoint(
        folder,
        filename="best",  # without held-out people: the last
        monitor="tar_at_fmr_1e-3" if validates else None,
        mode="max",
        save_last=True,
        enable_version_counter=False,
    )
    trainer = lightning.Trainer(
        max_epochs=stage.epochs,
        accelerator=device,
        precision=config.precision,
        default_root_dir=folder,
        logger=[CSVLogger(folder, name="", version="csv"), TensorBoardLogger(folder, name="", version="tensorboard")],
        callbacks=[checkpoints, LearningRateMonitor(), RichProgressBar()],
        num_sanity_val_steps=0,
        limit_val_batches=1.0 if validates else 0,
        log_every_n_steps=10,
    )
    last = folder / "last.ckpt"
    trainer.fit(module, datamodule=data, ckpt_path=str(last) if last.exists() else None, weights_only=True)
    score = checkpoints.best_model_score
    finished.write_text(
        json.dumps({"best": "best.ckpt", "tar_at_fmr_1e-3": float(score) if score is not None else None})
    )
    return folder / "best.ckpt"


def load_initial(encoder: torch.nn.Module, initial: Path) -> None:
    """Begin with a checkpoint of a run, or with published weights as ONNX (MobileFaceNet only)."""
    if initial.suffix == ".onnx":
        load_published(encoder, initial)
    else:
        encoder.load_state_dict(_encoder_weights(torch.load(initial, map_location="cpu", weights_only=True)))


def _encoder_weights(saved: dict[str, Any]) -> dict[str, Tensor]:
    prefix = "encoder."
    return {name.removeprefix(prefix): value for name, value in saved["state_dict"].items() if name.startswith(prefix)}
