"""Settings of an embedder training run, read from a YAML file."""

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

Fraction = Annotated[float, Field(ge=0, le=1)]


class ConfigError(ValueError):
    """A configuration that can't be used, in words for the person who wrote it."""


class Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SplitConfig(Strict):
    """Fractions of the *identities*; the rest trains. The split depends on the identity's name alone.

    `wrong_labels` names people who take part in nothing, since their pictures show somebody else, too.
    """

    validation: Fraction = 0.05
    calibration: Fraction = 0.10
    wrong_labels: tuple[str, ...] = ()


class AugmentationConfig(Strict):
    """Ranges of the random changes made to each training picture."""

    rotation_degrees: float = 10.0
    shift: Fraction = 0.05
    scale: Fraction = 0.10
    flip: Fraction = 0.5
    light: Fraction = 0.25
    greyscale: Fraction = 0.05
    low_resolution: Fraction = 0.2
    occlusion: Fraction = 0.1


class LossWeights(Strict):
    """Weights of the losses of one stage; a loss of weight 0 is not computed."""

    embedding: float = Field(0.0, ge=0, description="1 - cosine to the teacher's embedding")
    similarity: float = Field(0.0, ge=0, description="squared error of the batch's pairwise cosines to the teacher's")
    triplet: float = Field(0.0, ge=0, description="batch-hard triplet margin loss")
    arcface: float = Field(0.0, ge=0, description="additive angular margin softmax over the training people")

    @property
    def needs_teacher(self) -> bool:
        return self.embedding > 0 or self.similarity > 0


class StageConfig(Strict):
    """One stage of training, with its own losses and one learning-rate cycle.

    `images_per_identity` set: batches of P identities with K images each (batch-hard mining needs them), people
    without names are left out. Unset: all pictures, shuffled.
    """

    name: str
    epochs: int = Field(ge=1)
    batch_size: int = Field(128, ge=2)
    images_per_identity: int | None = Field(None, ge=2)
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(0.05, ge=0)
    warm_up: Fraction = 0.1
    triplet_margin: float = Field(0.2, gt=0)
    arcface_margin_degrees: float = Field(28.6, gt=0, lt=90)
    arcface_scale: float = Field(64.0, gt=0)
    freeze_batch_norm: bool = Field(False, description="keep the statistics that the initial weights came with")
    losses: LossWeights
    augmentation: AugmentationConfig | None = Field(None, description="unset: the run's")


class EmbedderConfig(Strict):
    """A whole run: backbone, data split, augmentation, and the stages in order."""

    backbone: str = "residual_small"
    embedding_dim: int = Field(128, ge=8)
    mirror_average: bool = Field(
        False, description="embed every face twice, the second time mirrored: better by a little, twice as slow"
    )
    seed: int = 0
    compile: bool = True
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "bf16-mixed"
    split: SplitConfig = SplitConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    stages: list[StageConfig] = Field(min_length=1)

    @classmethod
    def load(cls, path: Path) -> "EmbedderConfig":
        """Read a YAML file.

        Raises:
            ConfigError: no such file, not YAML, or a key that is unknown, missing or wrong, named with its place.
        """
        try:
            return cls.model_validate(yaml.safe_load(path.read_text()) or {})
        except (OSError, yaml.YAMLError) as error:
            raise ConfigError(f"{path}: {error}") from None
        except ValidationError as error:
            faults = (f"  {'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors())
            raise ConfigError("\n".join([f"{path} is not a run's configuration:", *faults])) from None
