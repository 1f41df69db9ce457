"""Settings of one stage of training."""

from typing import Self

from pydantic import Field, model_validator

from trainer.configuration import Configuration, Fraction
from trainer.embedder.input_config import AugmentationConfig
from trainer.embedder.loss_config import LossesConfig
from trainer.embedder.optimiser_config import AdamConfig, Optimizer, PlainScheduleConfig, Schedule


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
