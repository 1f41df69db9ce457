"""Settings of an embedder training run, read from a YAML file."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from service.vision.filters import Filters
from service.vision.heatmaps import LandmarkChannels
from trainer.configuration import Configuration, Fraction
from trainer.embedder.loss_config import LossesConfig


class SplitConfig(Configuration):
    """Fractions of the *identities*; the rest trains. The split depends on the identity's name alone.

    `wrong_labels` names people who take part in nothing, since their pictures show somebody else, too.
    """

    validation: Fraction = 0.05
    calibration: Fraction = 0.10
    wrong_labels: tuple[str, ...] = ()


class LandmarkChannelsConfig(LandmarkChannels):
    """Landmarks as further channels of every crop, which the bundle names and the service draws as well.

    Attributes:
        missing: part of the training pictures that come without their landmarks, as stored crops do in the service.
    """

    missing: Fraction = 0.1

    @property
    def served(self) -> LandmarkChannels:
        """What the bundle says of them."""
        return LandmarkChannels.model_validate(self.model_dump(exclude={"missing"}))


class TransformConfig(Configuration):
    """A transform of `torchvision.transforms.v2` by its name, with its arguments, done to a part of the pictures."""

    name: str
    probability: Fraction = 1.0
    arguments: dict[str, Any] = Field(default_factory=dict)


class AugmentationConfig(Configuration):
    """Ranges of the random changes made to each training picture, and further transforms in their order."""

    rotation_degrees: float = 10.0
    shift: Fraction = 0.05
    scale: Fraction = 0.10
    flip: Fraction = 0.5
    light: Fraction = 0.25
    greyscale: Fraction = 0.05
    low_resolution: Fraction = 0.2
    occlusion: Fraction = 0.1
    transforms: tuple[TransformConfig, ...] = ()


class AdamConfig(Configuration):
    """Adam, or AdamW, whose weight decay is apart from the gradient (Loshchilov and Hutter 2019)."""

    name: Literal["adamw", "adam"]
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)


class SgdConfig(Configuration):
    name: Literal["sgd"]
    momentum: Fraction = 0.9
    nesterov: bool = False

    @model_validator(mode="after")
    def _has_what_nesterov_needs(self) -> Self:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum")
        return self


class PlainScheduleConfig(Configuration):
    """After warming up: `one-cycle` (Smith and Topin 2019) or `cosine` down to nothing, or `constant`."""

    name: Literal["one-cycle", "cosine", "constant"]


class MultistepConfig(Configuration):
    """The rate is multiplied by `factor` at each of `milestones`, which are parts of the stage's steps."""

    name: Literal["multistep"]
    milestones: tuple[Fraction, ...] = (0.5, 0.75)
    factor: float = Field(0.1, gt=0, lt=1)


def _named(value: object) -> object:
    """`optimizer: sgd` is short for `optimizer: {name: sgd}`."""
    return {"name": value} if isinstance(value, str) else value


Optimizer = Annotated[AdamConfig | SgdConfig, Field(discriminator="name"), BeforeValidator(_named)]
Schedule = Annotated[PlainScheduleConfig | MultistepConfig, Field(discriminator="name"), BeforeValidator(_named)]


class StageConfig(Configuration):
    """One stage of training, with its own losses and one learning-rate cycle.

    `images_per_identity` set: batches of P identities with K images each (batch-hard mining needs them), people
    without names are left out. Unset: all pictures, shuffled. With several processes a batch is divided among them.

    Attributes:
        identities_per_batch: P, for those who want it said; P x K is the batch size.
        warm_up: the part of the stage in which the rate rises.
        accumulate: batches that make one step of the optimiser. Triplets are mined in each batch.
        gradient_clip: the largest norm of a step's gradient.
        train_backbone: false: only the layers after the backbone learn, and its last `unfrozen_stages`.
        ema: decay of the moving average of the weights that is measured and kept.
        early_stopping: epochs without a better value of `monitor` after which the stage ends.
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
    freeze_batch_norm: bool = Field(False, description="keep the statistics that the initial weights came with")
    train_backbone: bool = True
    unfrozen_stages: int = Field(0, ge=0)
    ema: float | None = Field(None, gt=0, lt=1)
    early_stopping: int | None = Field(None, ge=1)
    losses: LossesConfig
    augmentation: AugmentationConfig | None = Field(None, description="unset: the run's")

    @model_validator(mode="after")
    def _batches_are_whole(self) -> Self:
        people, each, size = self.identities_per_batch, self.images_per_identity, self.batch_size
        if each is None:
            if people is not None:
                raise ValueError("identities_per_batch says nothing without images_per_identity")
            if self.losses.triplet is not None:
                raise ValueError("triplets need pictures of the same person in a batch: set images_per_identity")
        elif size % each:
            raise ValueError(f"batch_size {size} is not a multiple of images_per_identity {each}")
        elif people is not None and people * each != size:
            raise ValueError(
                f"identities_per_batch x images_per_identity is {people} x {each} = {people * each}, and batch_size "
                f"{size}: make them equal"
            )
        return self

    @model_validator(mode="after")
    def _unfreezes_what_is_frozen(self) -> Self:
        if self.unfrozen_stages and self.train_backbone:
            raise ValueError("unfrozen_stages says which part of the backbone learns when train_backbone is false")
        return self


class EmbedderConfig(Configuration):
    """A whole run: encoder, data split, augmentation, and the stages in order.

    Attributes:
        backbone: see `trainer.embedder.backbones.build_encoder`.
        input_size: pixels that the aligned crop of 112 is scaled to.
        filters: of every crop, in training and, since the bundle names them, in the service.
        dropout: before the layer that makes the embedding.
        pretrained: begin with the weights that the backbone's library publishes; they are downloaded.
        min_images_per_class: people with fewer pictures take no part.
        keep_best: how many checkpoints are kept; the best one is `best.ckpt`.
        monitor: what chooses them, on people who don't train: the true accept rate at FMR 1e-3, or how often the
            nearest other picture is of the same person.
        deterministic: only operations that give the same result in every run; slower on a GPU.
    """

    backbone: str = "residual_small"
    embedding_dim: int = Field(128, ge=8)
    input_size: int = Field(112, ge=32, le=512)
    filters: Filters = Filters()
    landmark_channels: LandmarkChannelsConfig | None = None
    dropout: float = Field(0.0, ge=0, lt=1)
    pretrained: bool = False
    mirror_average: bool = Field(
        False, description="embed every face twice, the second time mirrored: better by a little, twice as slow"
    )
    seed: int = 0
    deterministic: bool = False
    compile: bool = True
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "bf16-mixed"
    min_images_per_class: int = Field(1, ge=1)
    keep_best: int = Field(1, ge=1)
    monitor: Literal["tar_at_fmr_1e-3", "rank_1"] = "tar_at_fmr_1e-3"
    split: SplitConfig = SplitConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    stages: list[StageConfig] = Field(min_length=1)

    @property
    def more_channels(self) -> int:
        """Of the encoder's input, beside the colours."""
        return 0 if self.landmark_channels is None else self.landmark_channels.count
