"""Trains an embedder stage by stage with Lightning: usually distillation, then batch-hard triplets."""

import itertools
import json
import logging
import shutil
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import lightning
import numpy as np
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException

from service.vision.heatmaps import MIRRORED
from trainer import provenance
from trainer.cache import atomic_file
from trainer.choices import LandmarkFinderName
from trainer.configuration import ConfigError
from trainer.embedder import training_people
from trainer.embedder.aligned_crops import AlignedCrops
from trainer.embedder.blends import with_blends
from trainer.embedder.callbacks import LAST, quiet_lightning, stage_callbacks, stage_folder
from trainer.embedder.checkpoints import graph_of, load_initial, load_loss, with_backbone_of
from trainer.embedder.classification import centroids_of, imprint
from trainer.embedder.config import EmbedderConfig
from trainer.embedder.crop_landmarks import configured_landmarks
from trainer.embedder.data import FaceData
from trainer.embedder.filtered_crops import filtered_crops
from trainer.embedder.landmark_heatmaps import mirror_order
from trainer.embedder.map_distillation import MapDistillation
from trainer.embedder.module import EmbedderModule
from trainer.embedder.run_record import require_same_run
from trainer.embedder.split import Part, picture_parts
from trainer.embedder.stage_config import StageConfig
from trainer.embedder.teacher import teacher_embeddings
from trainer.embedder.training_people import TrainingPeople

Floats = np.ndarray[Any, np.dtype[np.float32]]
BEST = "best.ckpt"
PAIR_METRICS = ("tar", "tar_fmr", "rank_1")
log = logging.getLogger(__name__)
SIGTERM_STATUS = 128 + signal.SIGTERM


@dataclass(frozen=True)
class _Run:
    """The configuration and data that all stages of a run share."""

    config: EmbedderConfig
    crops: AlignedCrops
    targets: Floats | None
    landmarks: Floats | None
    output: Path
    device: str
    processes: int
    callbacks: Sequence[Callback]
    initial: Path | None


def train(
    config: EmbedderConfig,
    crops: AlignedCrops,
    teachers: Sequence[Path],
    cache: Path,
    output: Path,
    initial: Path | None = None,
    device: str = "auto",
    processes: int = 1,
    callbacks: Sequence[Callback] = (),
    landmarks: Floats | None = None,
    before: TrainingPeople | None = None,
) -> Path:
    """Runs every stage and returns the best checkpoint of the last one.

    Each stage starts with the best checkpoint of the stage before. The same call resumes a run: it skips finished
    stages and continues an interrupted one with its last checkpoint.

    Args:
        teachers: Embedders to distil from: ONNX graphs or bundles.
        initial: Initial weights; see `load_initial`.
        processes: Number of processes that share each batch, one per GPU or several on a CPU. More than one starts
            this program again for each further process.
        callbacks: Additional Lightning callbacks for every stage.
        landmarks: (N, P, 3) landmarks of the crops for a model with landmark channels; None: those of the shipped
            detector.
        before: The people who trained the initial weights; None: they are unknown.

    Raises:
        ConfigError: A stage distils and there is no teacher, the folder contains another run, the data is
            insufficient, or the machine does not support the settings.
    """
    initial = None if initial is None else graph_of(initial)
    config = with_backbone_of(config, initial)
    if not teachers and any(stage.losses.needs_teacher for stage in config.stages):
        raise ConfigError("a stage of this configuration distils; name a teacher with --teacher")
    if config.landmark_channels is not None and landmarks is None:
        landmarks = configured_landmarks(crops, config.landmark_channels, LandmarkFinderName.YOLO, None)
    require_same_run(output, config, crops, teachers, initial, landmarks)
    provenance.write(provenance.origins_of(initial, teachers, config.published_weights), output)
    if not (output / training_people.FILE).exists():
        training_people.write(TrainingPeople.of(crops.identities, config.split, before), output)
    quiet_lightning()
    parts = np.array(picture_parts(crops, config.split))
    crops = with_blends(crops, np.flatnonzero(parts == Part.TRAIN), config.blends, config.seed, cache)
    used = np.append(parts == Part.TRAIN, np.ones(len(crops) - len(parts), bool))
    targets = teacher_embeddings(teachers, crops, cache, config.embedding_dim, used) if teachers else None
    run = _Run(config, crops, targets, landmarks, output, device, processes, callbacks, initial)
    filtered = filtered_crops(crops, config.filters, cache)
    stages = [FaceData(crops, targets, config, index, landmarks, filtered) for index in range(len(config.stages))]
    for index, data in enumerate(stages):
        _require_trainable(run, index, data)
    best = initial
    for index, data in enumerate(stages):
        best = _train_stage(run, index, best, data)
    assert best is not None
    return best


def _require_trainable(run: _Run, index: int, data: FaceData) -> None:
    """Checks a stage before the first one is trained.

    Raises:
        ConfigError: The data or the settings of the stage do not suffice.
    """
    config, stage = run.config, run.config.stages[index]
    processes = len(config.devices) or run.processes
    if stage.batch_size % processes:
        raise ConfigError(
            f"stage {stage.name!r}: {processes} processes cannot share a batch of {stage.batch_size}; make "
            "batch_size a multiple of the number of processes"
        )
    data.require_enough()
    _maps(run, stage)
    if not config.training_batches(data.steps_per_epoch):
        raise ConfigError(f"limit_train_batches: {config.limit_train_batches} of {data.steps_per_epoch} is no batch")
    if data.can_validate and config.monitor in PAIR_METRICS and not data.has_pairs:
        raise ConfigError(f"monitor {config.monitor} needs people with two validation pictures; use monitor: accuracy")
    if stage.early_stopping and not data.can_validate:
        raise ConfigError(f"stage {stage.name!r}: early_stopping needs validation people; raise split.validation")


def _train_stage(run: _Run, index: int, initial: Path | None, data: FaceData) -> Path:
    config, folder = run.config, stage_folder(run.output, run.config, index)
    if (folder / "finished.json").exists():
        return folder / BEST
    lightning.seed_everything(config.seed + index, workers=True, verbose=False)
    module = _module(run, index, initial, data)
    monitor = config.monitor if data.can_validate and config.keep_best else None
    checkpoints, callbacks = stage_callbacks(config, index, run.output, monitor)
    trainer = _lightning_trainer(run, config.stages[index], folder, [*callbacks, *run.callbacks], data)
    last = folder / LAST
    try:
        trainer.fit(module, datamodule=data, ckpt_path=str(last) if last.exists() else None, weights_only=True)
    except SIGTERMException:
        raise SystemExit(SIGTERM_STATUS) from None  # Lightning's exception has the status of a success
    _finish(folder, checkpoints, config.monitor)
    trainer.strategy.barrier()
    return folder / BEST


def _module(run: _Run, index: int, initial: Path | None, data: FaceData) -> EmbedderModule:
    config, stage = run.config, run.config.stages[index]
    steps = stage.epochs * -(-config.training_batches(data.steps_per_epoch) // stage.accumulate)
    teacher_dim = None if run.targets is None else run.targets.shape[1]
    order = MIRRORED if run.landmarks is None else mirror_order(run.landmarks)
    module = EmbedderModule(config, index, data.people, steps, teacher_dim, order, _maps(run, stage))
    if initial is not None:
        load_initial(module.encoder, initial)
    if initial is not None and index > 0:
        load_loss(module.loss, initial)
    if initial is not None and index == 0 and config.split.by == "picture":
        imprint(dict(module.loss.terms.items()), centroids_of(module.encoder, config, data))
    if not (stage.train_backbone or initial or config.pretrained):
        log.warning("stage %r freezes a backbone with random weights; name initial weights with --initial", stage.name)
    return module


def _maps(run: _Run, stage: StageConfig) -> MapDistillation | None:
    """Returns what compares feature maps. Raises ConfigError: `slim` has not made the initial weights."""
    if stage.losses.maps is None:
        return None
    if run.initial is None:
        raise ConfigError(f"stage {stage.name!r}: a loss of maps needs weights of `identity-trainer slim` as --initial")
    return MapDistillation.load(run.initial)


def _lightning_trainer(
    run: _Run, stage: StageConfig, folder: Path, callbacks: list[Callback], data: FaceData
) -> lightning.Trainer:
    strategy: Literal["auto", "ddp"] = "ddp" if run.processes > 1 or len(run.config.devices) > 1 else "auto"
    try:
        return lightning.Trainer(
            max_epochs=stage.epochs,
            accelerator=run.device,
            devices=list(run.config.devices) or run.processes,
            strategy=strategy,
            precision=run.config.precision,
            deterministic=run.config.deterministic,
            gradient_clip_val=stage.gradient_clip,
            accumulate_grad_batches=stage.accumulate,
            default_root_dir=folder,
            logger=[
                CSVLogger(folder, name="", version=_log_version(folder)),
                TensorBoardLogger(folder, name="", version="tensorboard"),
            ],
            callbacks=callbacks,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,  # FaceData yields each process's part of each batch
            limit_train_batches=run.config.limit_train_batches,
            limit_val_batches=run.config.limit_val_batches if data.can_validate else 0,
            log_every_n_steps=min(run.config.log_every_n_steps, run.config.training_batches(data.steps_per_epoch)),
            enable_progress_bar=run.config.enable_progress_bar,
            enable_model_summary=False,
        )
    except (ValueError, RuntimeError, ImportError, MisconfigurationException) as error:
        raise ConfigError(
            f"this machine cannot train on device {run.device} with precision {run.config.precision}: {error}"
        ) from None


def _log_version(folder: Path) -> str:
    """Returns a new name for the folder of metrics, since the logger would delete those before an interruption."""
    numbers = itertools.count(2)
    names = itertools.chain(["csv"], (f"csv-{number}" for number in numbers))
    return next(name for name in names if not (folder / name).exists())


@rank_zero_only
def _finish(folder: Path, checkpoints: ModelCheckpoint, monitor: str) -> None:
    """Copies the best checkpoint and marks the stage as finished."""
    shutil.copyfile(checkpoints.best_model_path, folder / BEST)
    score = checkpoints.best_model_score
    result = {"best": BEST, monitor: None if score is None else float(score)}
    with atomic_file(folder / "finished.json") as unfinished:
        unfinished.write_text(json.dumps(result))
