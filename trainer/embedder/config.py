"""Settings of an embedder training run."""

import difflib
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from service.vision.filters import Filters
from service.vision.heatmaps import LandmarkChannels
from trainer.configuration import Configuration, Fraction
from trainer.embedder.loss_config import LossesConfig
from trainer.embedder.optimiser_config import AdamConfig, Optimizer, PlainScheduleConfig, Schedule


class SplitConfig(Configuration):
    """Fractions of the identities; the remaining identities train. The part depends on the identity's name alone.

    Attributes:
        by: `identity`, or `picture` for a closed set of people: everybody trains, and `validation` is the fraction of
            each person's pictures that is held out, by the name of the file.
        validation: Identities that select the best checkpoint.
        calibration: Identities that only measure.
        held_out: Identities that only measure, in addition to the fraction.
        wrong_labels: Identities that are excluded, since their folders also contain pictures of other people.
    """

    by: Literal["identity", "picture"] = "identity"
    validation: Fraction = 0.05
    calibration: Fraction = 0.10
    held_out: tuple[str, ...] = ()
    wrong_labels: tuple[str, ...] = ()


class LandmarkChannelsConfig(LandmarkChannels):
    """Heatmaps of the landmarks as additional input channels. The bundle records them, and the service draws them.

    Attributes:
        missing: Fraction of the training pictures without landmarks, since stored crops of the service have none.
    """

    missing: Fraction = 0.1

    @property
    def served(self) -> LandmarkChannels:
        """The settings that the bundle records."""
        return LandmarkChannels.model_validate(self.model_dump(exclude={"missing"}))


class TransformConfig(Configuration):
    """A transform of `torchvision.transforms.v2`.

    Attributes:
        name: Class name.
        probability: Fraction of the pictures that it is applied to.
        arguments: Arguments of the class.
    """

    name: str
    probability: Fraction = 1.0
    arguments: dict[str, Any] = Field(default_factory=dict)


class AugmentationConfig(Configuration):
    """Random changes of each training picture.

    Attributes:
        rotation_degrees: Largest rotation.
        shift: Largest shift, as a fraction of the model input.
        scale: Largest change of size, as a fraction.
        flip: Probability of a mirror picture.
        light: Largest change of contrast and brightness, as a fraction; colours change by a quarter of it.
        greyscale: Probability of a grey picture.
        low_resolution: Probability of a reduced resolution (28 to 80 of 112 pixels).
        occlusion: Probability of a grey rectangle (16 to 48 of 112 pixels).
        transforms: Further transforms, applied in this order.
    """

    rotation_degrees: float = 10.0
    shift: Fraction = 0.05
    scale: Fraction = 0.10
    flip: Fraction = 0.5
    light: Fraction = 0.25
    greyscale: Fraction = 0.05
    low_resolution: Fraction = 0.2
    occlusion: Fraction = 0.1
    transforms: tuple[TransformConfig, ...] = ()


class StageConfig(Configuration):
    """One stage of training, with its own losses, optimiser and learning-rate schedule.

    If `images_per_identity` is set, a batch contains P identities with K pictures each, as batch-hard mining needs
    them, and unlabelled pictures are excluded. Otherwise all pictures are shuffled. Several processes share a batch.

    Attributes:
        name: Name of the stage in messages and in its folder `<number>-<name>` of the run.
        epochs: Number of passes over the training pictures.
        batch_size: Pictures of a batch; with `images_per_identity` this is P x K.
        identities_per_batch: P; optional, checked against `batch_size`.
        images_per_identity: K.
        optimizer: The optimiser with its settings; `optimizer: sgd` is short for `optimizer: {name: sgd}`.
        learning_rate: The highest rate of the schedule.
        weight_decay: Decay of the weights per step, as a multiple of the learning rate; 0 turns it off.
        schedule: The learning rate over the stage; `schedule: cosine` is short for `schedule: {name: cosine}`.
        warm_up: Fraction of the stage in which the learning rate rises.
        accumulate: Number of batches per optimiser step. Triplets are mined in each batch separately.
        gradient_clip: Largest norm of the gradient of a step.
        freeze_batch_norm: Keep the batch norm statistics of the initial weights.
        train_backbone: If false, only the layers after the backbone and its last `unfrozen_stages` are trained.
        unfrozen_stages: Number of last stages of the backbone that are trained although `train_backbone` is false; at
            most the number of stages of the backbone.
        ema: Decay of the moving average of the weights; the average is measured and stored.
        early_stopping: Number of epochs without a better `monitor` value after which the stage ends.
        losses: The losses of the stage with their weights; at least one.
        augmentation: Replaces the augmentation of the run.
    """

    name: str
    epochs: int = Field(ge=1)
    batch_size: int = Field(128, ge=2)
    identities_per_batch: int | None = Field(None, ge=2)
    images_per_identity: int | None = Field(None, ge=2)
    optimizer: Optimizer = AdamConfig(name="adamw")
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(0.05, ge=0)
    schedule: Schedule = PlainScheduleConfig(name="one-cycle")
    warm_up: Fraction = 0.1
    accumulate: int = Field(1, ge=1)
    gradient_clip: float | None = Field(None, gt=0)
    freeze_batch_norm: bool = False
    train_backbone: bool = True
    unfrozen_stages: int = Field(0, ge=0)
    ema: float | None = Field(None, gt=0, lt=1)
    early_stopping: int | None = Field(None, ge=1)
    losses: LossesConfig
    augmentation: AugmentationConfig | None = None

    @model_validator(mode="after")
    def _batch_size_is_consistent(self) -> Self:
        people, each, size = self.identities_per_batch, self.images_per_identity, self.batch_size
        if each is None:
            if people is not None:
                raise ValueError("identities_per_batch is set but images_per_identity is not; set both or neither")
            if self.losses.triplet is not None:
                raise ValueError("triplets need several pictures of a person in a batch; set images_per_identity")
        elif size % each:
            raise ValueError(f"batch_size {size} is not a multiple of images_per_identity {each}")
        elif people is not None and people * each != size:
            raise ValueError(
                f"identities_per_batch x images_per_identity is {people} x {each} = {people * each}, but batch_size is "
                f"{size}; make them equal"
            )
        return self

    @model_validator(mode="after")
    def _unfrozen_stages_need_a_frozen_backbone(self) -> Self:
        if self.unfrozen_stages and self.train_backbone:
            raise ValueError("unfrozen_stages is set but train_backbone is true; set train_backbone: false")
        return self


class EmbedderConfig(Configuration):
    """A training run: encoder, split of identities, augmentation, and the stages in order.

    Attributes:
        backbone: Name of the backbone; see `trainer.embedder.backbones.build_encoder`.
        embedding_dim: Length of the embedding vector.
        input_size: Side in pixels to which the central 112 pixels of an aligned crop are scaled.
        filters: Applied to every crop, in training and, recorded in the bundle, in the service.
        landmark_channels: Additional input channels with heatmaps of the landmarks.
        dropout: Probability before the embedding layer.
        pretrained: Download the published weights of the backbone's library as initial weights: true for its default
            weights, or their name, such as IMAGENET1K_SWAG_E2E_V1 of torchvision or the tag of a timm model.
        mirror_average: Embed each face a second time mirrored; slightly more accurate, half as fast.
        seed: Seed of the initial weights, the order of the pictures and the augmentation; each later stage adds 1.
        deterministic: Use only operations with the same result in every run; slower on a GPU.
        compile: Compile the encoder with torch.compile, which needs g++.
        precision: Number format in training: single precision, or mixed precision with bfloat16 or float16, in which
            the weights stay in single precision.
        min_images_per_class: People with fewer pictures are excluded.
        keep_best: Number of stored checkpoints; the best one is `best.ckpt`. 0: no epoch is selected, and the last one
            is `best.ckpt`.
        monitor: Any logged metric of the validation people; it selects the best checkpoint. `tar_at_fmr_1e-3` is the
            true accept rate at FMR 1e-3, `rank_1` how often the most similar other picture is of the same person.
        mode: `max` if a higher value of `monitor` is better, else `min`.
        split: Fractions of the identities that do not train.
        augmentation: Random changes of the training pictures in every stage without an `augmentation` of its own.
        stages: The stages in the order of training; each one starts with the weights of the stage before it.
    """

    backbone: str = "residual_small"
    embedding_dim: int = Field(128, ge=8)
    input_size: int = Field(112, ge=32, le=512)
    filters: Filters = Filters()
    landmark_channels: LandmarkChannelsConfig | None = None
    dropout: float = Field(0.0, ge=0, lt=1)
    pretrained: bool | str = False
    mirror_average: bool = False
    seed: int = 0
    deterministic: bool = False
    compile: bool = True
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "bf16-mixed"
    min_images_per_class: int = Field(1, ge=1)
    keep_best: int = Field(1, ge=0)
    monitor: str = "tar_at_fmr_1e-3"
    mode: Literal["max", "min"] = "max"
    split: SplitConfig = SplitConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    stages: list[StageConfig] = Field(min_length=1)

    @model_validator(mode="after")
    def _monitor_is_logged(self) -> Self:
        if self.monitor not in (logged := self.metrics):
            similar = difflib.get_close_matches(self.monitor, logged, 1)
            hint = f"; did you mean {similar[0]}?" if similar else ""
            raise ValueError(f"monitor {self.monitor!r} is not logged in every stage; use {', '.join(logged)}{hint}")
        return self

    @property
    def metrics(self) -> list[str]:
        """Names of the metrics that every stage logs once per epoch."""
        terms = [{name for name in LossesConfig.model_fields if getattr(stage.losses, name)} for stage in self.stages]
        losses = ["loss", *(f"loss_{name}" for name in sorted(set.intersection(*terms)))]
        closed_set = ["accuracy", "top_3", "validation_loss"] if self.split.by == "picture" else []
        return ["tar_at_fmr_1e-3", "rank_1", *closed_set, *losses]

    @property
    def more_channels(self) -> int:
        """Number of input channels in addition to red, green and blue."""
        return 0 if self.landmark_channels is None else self.landmark_channels.count
