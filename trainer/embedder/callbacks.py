"""What a stage of training does beside the training: progress, log, checkpoints, averages, early stopping."""

import datetime
import logging
import warnings
from pathlib import Path

import lightning
from lightning.pytorch.callbacks import (
    Callback,
    EarlyStopping,
    EMAWeightAveraging,
    LearningRateMonitor,
    ModelCheckpoint,
    RichProgressBar,
)
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from trainer.embedder.config import EmbedderConfig

LAST = "last.ckpt"
LOG = "training.log"
IGNORED_WARNINGS = (
    r".*Checkpoint directory .* exists and is not empty.*",  # a resumed run
    r".*isinstance\(treespec, LeafSpec\)` is deprecated.*",  # Lightning itself
    r".*does not have many workers.*",  # the pictures are a memory map; workers would copy it
    r".*number of training batches .* is smaller than the logging interval.*",
)


def quiet_lightning() -> None:
    """Removes Lightning's advertisements, tips, and warnings that the user can do nothing about."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in IGNORED_WARNINGS:
        warnings.filterwarnings("ignore", message)


def stage_callbacks(
    config: EmbedderConfig, index: int, run: Path, monitor: str | None
) -> tuple[ModelCheckpoint, list[Callback]]:
    """Returns the checkpoint callback that selects the best epoch, and all callbacks of a stage in order.

    Args:
        index: Number of the stage, from 0.
        run: Folder of the run.
        monitor: Metric that selects the best epoch; None: the last epoch is the best one.
    """
    stage, folder = config.stages[index], stage_folder(run, config, index)
    best = _best_checkpoints(folder, config, monitor)
    callbacks: list[Callback] = [LearningRateMonitor(), StageLog(run / LOG, config, index)]
    if config.enable_progress_bar:
        callbacks.append(StageProgress(config, index))
    if stage.ema is not None:
        callbacks.append(EMAWeightAveraging(decay=stage.ema))
    if stage.early_stopping is not None and monitor is not None:
        callbacks.append(EarlyStopping(monitor, patience=stage.early_stopping, mode=config.mode))
    # Callbacks of checkpoints run in this order: the last checkpoint contains the state of the best ones.
    return best, [*callbacks, best, _last_checkpoint(folder, config)]


def stage_folder(run: Path, config: EmbedderConfig, index: int) -> Path:
    return run / f"{index + 1}-{config.stages[index].name}"


def _best_checkpoints(folder: Path, config: EmbedderConfig, monitor: str | None) -> ModelCheckpoint:
    return ModelCheckpoint(
        folder,
        filename="{epoch:03d}-{" + monitor + ":.4f}" if monitor else "last-epoch",
        monitor=monitor,
        mode=config.mode,
        save_top_k=config.keep_best if monitor else 1,
        enable_version_counter=False,
    )


def _last_checkpoint(folder: Path, config: EmbedderConfig) -> ModelCheckpoint:
    """Stores finished epochs, from which a run resumes; the best checkpoints are stored only if they change."""
    return ModelCheckpoint(
        folder,
        filename=Path(LAST).stem,
        monitor=None,
        every_n_epochs=config.checkpoint_interval,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )


class StageProgress(RichProgressBar):
    """Shows stage and epoch of the run; Lightning's own bar counts epochs from 0 and shows a version number."""

    def __init__(self, config: EmbedderConfig, index: int) -> None:
        super().__init__()
        self._text = f"stage {index + 1} of {len(config.stages)}"

    def _get_train_description(self, current_epoch: int) -> str:
        epochs = self.trainer.max_epochs
        return f"{self._text}, epoch {current_epoch + 1} of {epochs}"

    def get_metrics(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        metrics = super().get_metrics(trainer, pl_module)
        return {name: value for name, value in metrics.items() if name != "v_num"}


class StageLog(Callback):
    """Appends one line for each epoch to the run's log and prints it."""

    def __init__(self, file: Path, config: EmbedderConfig, index: int) -> None:
        stage = config.stages[index]
        self._file, self._epochs = file, stage.epochs
        self._text = f"stage {index + 1} of {len(config.stages)} ({stage.name})"

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        start = f"starts with epoch {trainer.current_epoch + 1} of {self._epochs}"
        processes = f", {trainer.world_size} processes" if trainer.world_size > 1 else ""
        self._write(pl_module, f"{self._text}: {start}, on {pl_module.device}{processes}")

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items() if isinstance(value, Tensor)}
        values = ", ".join(f"{name} {value:.4g}" for name, value in sorted(metrics.items()))
        self._write(pl_module, f"{self._text}: epoch {trainer.current_epoch + 1} of {self._epochs}: {values}")

    def on_fit_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._write(pl_module, f"{self._text}: finished")

    @rank_zero_only
    def _write(self, module: lightning.LightningModule, line: str) -> None:
        module.print(line)
        time = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        with self._file.open("a") as log:
            log.write(f"{time} {line}\n")
