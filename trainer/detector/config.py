"""Settings of a detector training run, read from a YAML file."""

from pydantic import Field

from trainer.configuration import Configuration, Fraction


class DetectorConfig(Configuration):
    """One fine-tuning run of an Ultralytics pose model on faces with five landmarks.

    `landmark_sigma` is the tolerance of the landmark loss (object keypoint similarity) as a fraction of the square
    root of the face's area. Ultralytics' default for five points is 0.2, which forgives an eye in the wrong place.
    """

    architecture: str = "yolo11n-pose.yaml"
    image_size: int = Field(416, ge=96, multiple_of=32)
    epochs: int = Field(10, ge=1)
    batch_size: int = Field(16, ge=1)
    frozen_layers: int = Field(0, ge=0)
    workers: int = Field(2, ge=0)
    seed: int = 0
    learning_rate: float | None = Field(None, gt=0, description="None: chosen by Ultralytics from the run's length")
    landmark_sigma: float = Field(0.07, gt=0)
    landmark_weight: float = Field(12.0, gt=0, description="of the landmark loss beside the box loss's 7.5")
    rotation_degrees: float = Field(15.0, ge=0, le=180)
    scale: Fraction = 0.5
    mosaic: Fraction = 1.0
    epochs_without_mosaic: int = Field(2, ge=0)
