"""Settings of an embedder training run."""

import difflib
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from service.vision.filters import Filters
from trainer.configuration import Configuration, Fraction
from trainer.embedder.input_config import AugmentationConfig, LandmarkChannelsConfig
from trainer.embedder.loss_config import LossesConfig
from trainer.embedder.split_config import SplitConfig
from trainer.embedder.stage_config import StageConfig

CLASSIFIERS = {"softmax", "arcface", "cosface", "adaface"}
"""Losses that learn a classifier of the training people."""
Positive = Annotated[float, Field(gt=0)]
Colours = tuple[float, float, float]


class ScalingConfig(Configuration):
    """Mean and standard deviation of the pixels, on values of 0 to 1, as `identity-trainer explore` computes them.

    Attributes:
        mean: Of red, green and blue; the encoder subtracts it.
        deviation: Of red, green and blue; the encoder divides by it.
    """

    mean: Colours
    deviation: tuple[Positive, Positive, Positive]


class EmbedderConfig(Configuration):
    """A training run: encoder, split of identities, augmentation, and the stages in order.

    Attributes:
        backbone: Name of the backbone; see `trainer.embedder.backbones.build_encoder`. `initial`: that of the initial
            weights, if it is one of the trainer's own.
        embedding_dim: Length of the embedding vector.
        input_size: Side in pixels to which the central 112 pixels of an aligned crop are scaled.
        filters: Applied to every crop, in training and, recorded in the bundle, in the service.
        landmark_channels: Additional input channels with heatmaps of the landmarks.
        scaling: Scaling of the pixels inside the encoder of a library's backbone. Unset: that of its published weights.
        dropout: Probability before the embedding layer.
        pretrained: Download the published weights of the backbone's library as initial weights: true for its default
            weights, or their name, such as IMAGENET1K_SWAG_E2E_V1 of torchvision or the tag of a timm model.
        mirror_average: Embed each face a second time mirrored; slightly more accurate, half as fast.
        seed: Seed of the initial weights, the order of the pictures and the augmentation; each later stage adds 1.
        deterministic: Use only operations with the same result in every run; slower on a GPU.
        compile: Compile the encoder with torch.compile, which needs g++.
        precision: Number format in training: single precision, or mixed precision with bfloat16 or float16, in which
            the weights stay in single precision.
        devices: Numbers of the GPUs to use, for example [0, 2]; empty: as --processes says.
        num_workers: Processes that load pictures; 0: the training process loads them from a memory map.
        pin_memory: Load pictures into memory from which copies to a GPU are fast.
        persistent_workers: Keep the loading processes between epochs.
        limit_train_batches: Use only this number, or this fraction, of the batches of an epoch.
        limit_val_batches: Measure only on this number, or this fraction, of the validation batches.
        enable_progress_bar: Show progress bars.
        log_every_n_steps: Number of optimiser steps between two rows of the logs; at least one row per epoch is logged.
        checkpoint_interval: Number of epochs between two stored epochs, from which an interrupted run resumes.
        min_images_per_class: People with fewer pictures are excluded.
        keep_best: Number of stored checkpoints; the best one is `best.ckpt`. 0: no epoch is selected, and the last one
            is `best.ckpt`.
        monitor: Any logged metric of the validation people; it selects the best checkpoint. `tar` is the true accept
            rate at FMR 1e-3, or at the lowest FMR that their pairs can measure (logged as `tar_fmr`); `rank_1` is how
            often the most similar other picture is of the same person.
        mode: `max` if a higher value of `monitor` is better, else `min`.
        split: Fractions of the identities that do not train.
        blends: Number of further training pictures for distillation, each a blend of two of the others (77 kB of disk
            space each). They help if there are few pictures.
        augmentation: Random changes of the training pictures in every stage without an `augmentation` of its own.
        stages: The stages in the order of training; each one starts with the weights of the stage before it.
    """

    backbone: str = "residual_small"
    embedding_dim: int = Field(128, ge=8)
    input_size: int = Field(112, ge=32, le=512)
    filters: Filters = Filters()
    landmark_channels: LandmarkChannelsConfig | None = None
    scaling: ScalingConfig | None = None
    dropout: float = Field(0.0, ge=0, lt=1)
    pretrained: bool | str = False
    mirror_average: bool = False
    seed: int = 0
    deterministic: bool = False
    compile: bool = True
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "bf16-mixed"
    devices: tuple[Annotated[int, Field(ge=0)], ...] = ()
    num_workers: int = Field(0, ge=0)
    pin_memory: bool = False
    persistent_workers: bool = False
    limit_train_batches: Annotated[int, Field(ge=1)] | Fraction | None = None
    limit_val_batches: Annotated[int, Field(ge=1)] | Fraction | None = None
    enable_progress_bar: bool = True
    log_every_n_steps: int = Field(10, ge=1)
    checkpoint_interval: int = Field(1, ge=1)
    min_images_per_class: int = Field(1, ge=1)
    keep_best: int = Field(1, ge=0)
    monitor: str = "tar"
    mode: Literal["max", "min"] = "max"
    split: SplitConfig = SplitConfig()
    blends: int = Field(0, ge=0)
    augmentation: AugmentationConfig = AugmentationConfig()
    stages: list[StageConfig] = Field(min_length=1)

    @model_validator(mode="after")
    def _monitor_is_logged(self) -> Self:
        if self.monitor not in (logged := self.metrics):
            similar = difflib.get_close_matches(self.monitor, logged, 1)
            hint = f"; did you mean {similar[0]}?" if similar else ""
            raise ValueError(f"monitor {self.monitor!r} is not logged in every stage; use {', '.join(logged)}{hint}")
        return self

    @model_validator(mode="after")
    def _blends_have_no_landmarks(self) -> Self:
        if self.blends and self.landmark_channels is not None:
            raise ValueError("blends of two faces have no landmarks; remove blends or landmark_channels")
        return self

    @model_validator(mode="after")
    def _persistent_workers_exist(self) -> Self:
        if self.persistent_workers and not self.num_workers:
            raise ValueError("persistent_workers is true but num_workers is 0; set num_workers")
        return self

    def training_batches(self, batches: int) -> int:
        """Returns how many of the batches of an epoch are used."""
        limit = self.limit_train_batches
        if limit is None:
            return batches
        return min(limit, batches) if isinstance(limit, int) else int(limit * batches)

    @property
    def metrics(self) -> list[str]:
        """Names of the metrics that every stage logs once per epoch."""
        terms = [{name for name in LossesConfig.model_fields if getattr(stage.losses, name)} for stage in self.stages]
        losses = ["loss", *(f"loss_{name}" for name in sorted(set.intersection(*terms)))]
        classifies = set.intersection(*terms) & CLASSIFIERS
        closed_set = ["accuracy", "top_3", "validation_loss"] if self.split.by == "picture" and classifies else []
        return ["tar", "rank_1", *closed_set, *losses]

    @property
    def published_weights(self) -> str | None:
        """The backbone whose published weights are the initial ones; None: they are random, or of a file."""
        if not self.pretrained:
            return None
        return self.backbone if self.pretrained is True else f"{self.backbone}, {self.pretrained}"

    @property
    def pixel_statistics(self) -> tuple[Colours, Colours] | None:
        """Mean and deviation of `scaling`."""
        return None if self.scaling is None else (self.scaling.mean, self.scaling.deviation)

    @property
    def more_channels(self) -> int:
        """Number of input channels in addition to red, green and blue."""
        return 0 if self.landmark_channels is None else self.landmark_channels.count
