"""Settings of the landmark refiner's training, read from a YAML file."""

from pydantic import Field

from trainer.configuration import Configuration, Fraction


class LandmarkConfig(Configuration):
    """Settings of one training run.

    In service, the refiner receives a crop aligned by the detector's rough landmarks. In training, rough landmarks are
    simulated: the true ones are rotated, scaled and shifted together and then moved independently. `jitter` and `shift`
    are standard deviations divided by the distance between the eyes.
    """

    input_size: int = Field(96, ge=32, multiple_of=16, description="side of the refiner's input in pixels")
    width: int = Field(24, ge=4, description="channels of the first convolution")
    epochs: int = Field(24, ge=1, description="number of passes over the training faces")
    batch_size: int = Field(128, ge=2, description="faces per batch; at most the number of training faces")
    learning_rate: float = Field(2e-3, gt=0, description="maximum rate of the one-cycle schedule")
    weight_decay: float = Field(
        1e-4, ge=0, description="decay of the weights per step (AdamW), as a multiple of the learning rate"
    )
    workers: int = Field(1, ge=0, description="processes that create samples")
    seed: int = Field(0, description="seed of the initial weights, the order of the faces and the alterations")
    face_weight: float = Field(1.0, ge=0, description="weight of the face verification loss; the landmark loss has 1")
    jitter: float = Field(0.1, ge=0, description="independent displacement of each landmark")
    rotation_degrees: float = Field(15.0, ge=0, le=180, description="maximum rotation of the landmarks")
    scale: float = Field(0.12, ge=0, description="standard deviation of the logarithm of the scale")
    shift: float = Field(0.1, ge=0, description="common displacement of the landmarks")
    covered: Fraction = Field(0.35, description="share of crops in which a part of the face is covered")
    degraded: Fraction = Field(0.4, description="share of crops with reduced resolution")
