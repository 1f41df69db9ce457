"""Settings of a detector training run, read from a YAML file."""

from pydantic import Field

from trainer.configuration import Configuration, Fraction


class DetectorConfig(Configuration):
    """Settings of one fine-tuning run of an Ultralytics pose model on faces with five landmarks."""

    architecture: str = Field(
        "yolo11n-pose.yaml", description="model description that Ultralytics contains, or `first-look.yaml`"
    )
    image_size: int = Field(416, ge=96, multiple_of=32, description="side of the training pictures in pixels")
    epochs: int = Field(10, ge=1, description="number of passes over the training pictures")
    batch_size: int = Field(16, ge=1, description="pictures per batch")
    frozen_layers: int = Field(0, ge=0, description="number of first layers whose weights stay unchanged")
    workers: int = Field(2, ge=0, description="processes that load pictures")
    seed: int = Field(0, description="seed of the initial weights, the order of the pictures and the augmentation")
    learning_rate: float | None = Field(
        None,
        gt=0,
        description="initial rate of AdamW; None: Ultralytics chooses optimiser and rate by the run's length",
    )
    landmark_sigma: float = Field(
        0.07,
        gt=0,
        description=(
            "tolerance of the landmark loss (object keypoint similarity), as a fraction of the square root of the "
            "face's area; Ultralytics' default of 0.2 for five points tolerates an eye in the wrong place"
        ),
    )
    landmark_weight: float = Field(12.0, gt=0, description="weight of the landmark loss; the box loss has 7.5")
    rotation_degrees: float = Field(15.0, ge=0, le=180, description="pictures are rotated by up to this angle")
    scale: Fraction = Field(0.5, description="pictures are scaled by 1 ± this fraction")
    mosaic: Fraction = Field(1.0, description="share of samples that are mosaics of four pictures")
    epochs_without_mosaic: int = Field(2, ge=0, description="number of last epochs without mosaics")
