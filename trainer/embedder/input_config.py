"""Settings of the random changes of training pictures, and of additional input channels."""

from typing import Any, Literal

from pydantic import Field

from service.vision.heatmaps import LandmarkChannels
from trainer.configuration import Configuration, Fraction


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
    """A transform of `torchvision.transforms.v2` or of Albumentations.

    Attributes:
        name: Class name.
        library: `torchvision`, or `albumentations`, which works on the CPU and is an optional package.
        probability: Fraction of the pictures that it is applied to.
        arguments: Arguments of the class.
    """

    name: str
    library: Literal["torchvision", "albumentations"] = "torchvision"
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
