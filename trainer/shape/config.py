"""Settings of the landmark autoencoder, read from a YAML file."""

from pydantic import Field

from trainer.configuration import Configuration
from trainer.embedder.config import SplitConfig


class ShapeConfig(Configuration):
    """One training run.

    Attributes:
        frontal_degrees: a picture with less yaw and pitch shows what its person looks like from the front.
        fewest_frontal: pictures from the front that a person needs, to have a canonical face at all.
        code: numbers that the autoencoder keeps of a face.
        noise: added to the landmarks in training, in eye distances.
        split: of the people; `validation` chooses the epoch, `calibration` is reported on.
    """

    frontal_degrees: float = Field(12.0, gt=0, le=45)
    fewest_frontal: int = Field(3, ge=1)
    hidden: int = Field(64, ge=4)
    code: int = Field(8, ge=1)
    noise: float = Field(0.01, ge=0)
    epochs: int = Field(60, ge=1)
    batch_size: int = Field(256, ge=2)
    learning_rate: float = Field(2e-3, gt=0)
    seed: int = 0
    split: SplitConfig = SplitConfig(validation=0.10, calibration=0.30)
