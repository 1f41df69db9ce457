"""Settings of the landmark refiner's training, read from a YAML file."""

from pydantic import Field

from trainer.configuration import Configuration, Fraction


class LandmarkConfig(Configuration):
    """One training run.

    The refiner sees a crop that rough landmarks made. In training these are the true ones, moved: each point by itself
    (`jitter`), and all together (`rotation_degrees`, `scale`, `shift`). Lengths are in parts of the distance between
    the eyes.
    """

    input_size: int = Field(96, ge=32, multiple_of=16)
    width: int = Field(24, ge=4, description="channels of the first convolution")
    epochs: int = Field(24, ge=1)
    batch_size: int = Field(128, ge=2)
    learning_rate: float = Field(2e-3, gt=0)
    weight_decay: float = Field(1e-4, ge=0)
    workers: int = Field(1, ge=0, description="processes that make samples")
    seed: int = 0
    face_weight: float = Field(1.0, ge=0, description="of telling faces from other things, beside the landmarks")
    jitter: float = Field(0.1, ge=0)
    rotation_degrees: float = Field(15.0, ge=0, le=180)
    scale: float = Field(0.12, ge=0)
    shift: float = Field(0.1, ge=0)
    covered: Fraction = 0.35
    degraded: Fraction = 0.4
