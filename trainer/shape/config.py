"""Settings of the landmark autoencoder, read from a YAML file."""

from pydantic import Field

from trainer.configuration import Configuration
from trainer.embedder.split_config import SplitConfig


class ShapeConfig(Configuration):
    """Settings of one training run of the landmark autoencoder."""

    frontal_degrees: float = Field(
        12.0, gt=0, le=45, description="a picture whose yaw and pitch are smaller counts as frontal"
    )
    fewest_frontal: int = Field(
        3, ge=1, description="minimum number of frontal pictures of a person whose pictures are used"
    )
    roll: bool = Field(
        False,
        description="use roll as an input; the landmarks are upright, so that it can only tell how they were taken",
    )
    hidden: int = Field(64, ge=4, description="width of the hidden layers")
    code: int = Field(8, ge=1, description="length of the code between encoder and decoder")
    noise: float = Field(
        0.01, ge=0, description="standard deviation of the noise on training inputs, in distances between the eyes"
    )
    epochs: int = Field(60, ge=1, description="number of passes over the training pictures")
    batch_size: int = Field(256, ge=2, description="pictures per batch")
    learning_rate: float = Field(2e-3, gt=0, description="learning rate of Adam, constant")
    seed: int = Field(0, description="seed of the initial weights, the order of the pictures and the noise")
    split: SplitConfig = Field(
        SplitConfig(validation=0.10, calibration=0.30),
        description="split of the people: `validation` selects the epoch, errors are reported on `calibration`",
    )
