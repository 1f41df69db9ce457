"""Trains an embedder stage by stage with Lightning: usually distillation, then batch-hard triplets."""

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import lightning
import numpy as np
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import (
    Callback,
    EarlyStopping,
    EMAWeightAveraging,
    LearningRateMonitor,
    ModelCheckpoint,
    RichProgressBar,
)
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from service.inference.bundle import file_sha256
from trainer.configuration import ConfigError
from trainer.embedder.canvases import CanvasSet
from trainer.embedder.checkpoints import load_initial
from trainer.embedder.config import EmbedderConfig, StageConfig
from trainer.embedder.data import FaceData
from trainer.embedder.landmark_finders import served_landmarks
from trainer.embedder.module import EmbedderModule
from trainer.embedder.teacher import teacher_embeddings

Floats = np.ndarray[Any, np.dtype[np.float32]]
BEST = "best.ckpt"


def train(
    config: EmbedderConfig,
    canvases: CanvasSet,
    teacher: Path | None,
    cache: Path,
    output: Path,
    initial: Path | None = None,
    device: str = "auto",
    processes: int = 1,
    callbacks: Sequence[Callback] = (),
    landmarks: Floats | None = None,
) -> Path:
    """Run every stage, each from the best checkpoint of the one before, and return the last one's best.

    A stage that is complete is skipped and one that was cut off goes on from its last checkpoint, so that the same
    command resumes a run.

    Args:
        callbacks: further ones of Lightning's, for every stage.
        landmarks: (N, 6, 3) of the canvases, for a model that sees them; unset: what the service's detector finds.
        processes: that share each batch, one a GPU or several on a CPU. More than one starts this program anew for
            each of the others.

    Raises:
        ConfigError: a stage distils and no teacher is given, or the data or the machine can't do what is asked for.
    """
    if teacher is None and any(stage.losses.needs_teacher for stage in config.stages):
        raise ConfigError("a stage of this configuration distils: name a teacher with --teacher")
    if config.landmark_channels is not None and landmarks is None:
        landmarks = served_landmarks(canvases)
    _require_same_run(output, config, canvases, teacher, initial, landmarks)
    targets = None if teacher is None else teacher_embeddings(teacher, canvases, cache)
    best = initial
    for index in range(len(config.stages)):
        best = _train_stage(config, index, canvases, targets, output, best, device, processes, callbacks, landmarks)
    assert best is not None
    return best


def _require_same_run(
    output: Path,
    config: EmbedderConfig,
    canvases: CanvasSet,
    teacher: Path | None,
    initial: Path | None,
    landmarks: Floats | None,
) -> None:
    """A folder holds one run: other data or settings would silently go on with, or export, what is there.

    Raises:
        ConfigError: the folder holds another run.
    """
    described = {
        "config": config.model_dump(mode="json"),
        "pictures": canvases.key,
        "teacher": None if teacher is None else file_sha256(teacher),
        "initial": None if initial is None else file_sha256(initial),
        "landmarks": None if landmarks is None else hashlib.sha256(landmarks.tobytes()).hexdigest(),
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


def _train_stage(
    config: EmbedderConfig,
    index: int,
    canvases: CanvasSet,
    targets: Floats | None,
    output: Path,
    initial: Path | None,
    device: str,
    processes: int,
    further: Sequence[Callback],
    landmarks: Floats | None,
) -> Path:
    stage = config.stages[index]
    folder = output / f"{index + 1}-{stage.name}"
    finished = folder / "finished.json"
    if finished.exists():
        return folder / BEST
    if stage.batch_size % processes:
        raise ConfigError(f"stage {stage.name!r}: {processes} processes can't share a batch_size of {stage.batch_size}")
    lightning.seed_everything(config.seed + index, workers=True)
    data = FaceData(canvases, targets, config.split, stage, config.seed + index, config.min_images_per_class, landmarks)
    data.require_enough()
    steps = stage.epochs * -(-data.steps_per_epoch // stage.accumulate)
    module = EmbedderModule(config, index, data.people, steps, None if targets is None else targets.shape[1])
    if initial is not None:
        load_initial(module.encoder, initial)
    if stage.early_stopping and not data.can_validate:
        raise ConfigError(f"stage {stage.name!r}: early_stopping needs held-out people: raise split.validation")
    monitor = config.monitor if data.can_validate else None
    checkpoints = _checkpoints(folder, config, monitor)
    callbacks = [checkpoints, *_callbacks(stage, monitor), *further]
    trainer = _lightning_trainer(config, stage, folder, callbacks, device, processes)
    last = folder / "last.ckpt"
    trainer.fit(module, datamodule=data, ckpt_path=str(last) if last.exists() else None, weights_only=True)
    _finish(folder, checkpoints, config.monitor)
    trainer.strategy.barrier()
    return folder / BEST


def _checkpoints(folder: Path, config: EmbedderConfig, monitor: str | None) -> ModelCheckpoint:
    """The best ones where held-out people choose, the last one otherwise."""
    return ModelCheckpoint(
        folder,
        filename="{epoch:03d}-{" + monitor + ":.4f}" if monitor else "last-epoch",
        monitor=monitor,
        mode="max",
        save_top_k=config.keep_best if monitor else 1,
        save_last=True,
        enable_version_counter=False,
    )


def _callbacks(stage: StageConfig, monitor: str | None) -> list[Callback]:
    callbacks: list[Callback] = [LearningRateMonitor(), RichProgressBar()]
    if stage.ema is not None:
        callbacks.append(EMAWeightAveraging(decay=stage.ema))
    if stage.early_stopping is not None and monitor is not None:
        callbacks.append(EarlyStopping(monitor, patience=stage.early_stopping, mode="max"))
    return callbacks


def _lightning_trainer(
    config: EmbedderConfig, stage: StageConfig, folder: Path, callbacks: list[Callback], device: str, processes: int
) -> lightning.Trainer:
    strategy: Literal["auto", "ddp"] = "ddp" if processes > 1 else "auto"
    try:
        return lightning.Trainer(
            max_epochs=stage.epochs,
            accelerator=device,
            devices=processes,
            strategy=strategy,
            precision=config.precision,
            deterministic=config.deterministic,
            gradient_clip_val=stage.gradient_clip,
            accumulate_grad_batches=stage.accumulate,
            default_root_dir=folder,
            logger=[
                CSVLogger(folder, name="", version="csv"),
                TensorBoardLogger(folder, name="", version="tensorboard"),
            ],
            callbacks=callbacks,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,  # every process takes its part of each batch by itself
            limit_val_batches=1.0 if _validates(callbacks) else 0,
            log_every_n_steps=10,
        )
    except (ValueError, RuntimeError, ImportError, MisconfigurationException) as error:
        raise ConfigError(f"this machine can't train so ({config.precision}, {device}): {error}") from None


def _validates(callbacks: list[Callback]) -> bool:
    return any(isinstance(callback, ModelCheckpoint) and callback.monitor for callback in callbacks)


@rank_zero_only
def _finish(folder: Path, checkpoints: ModelCheckpoint, monitor: str) -> None:
    shutil.copyfile(checkpoints.best_model_path, folder / BEST)
    score = checkpoints.best_model_score
    (folder / "finished.json").write_text(json.dumps({"best": BEST, monitor: None if score is None else float(score)}))
