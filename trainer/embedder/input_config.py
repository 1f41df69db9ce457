"""Settings of the random changes of training pictures, and of additional input channels."""

from typing import Any, Literal

from pydantic import Field

from service.vision.heatmaps import POINTS, LandmarkChannels
from trainer.choices import LandmarkFinderName
from trainer.configuration import ConfigError, Configuration, Fraction


class LandmarkChannelsConfig(Configuration):
    """Heatmaps of the landmarks as additional input channels.

    The bundle records the layouts `groups` and `points`, and the service draws them. A model with another layout cannot
    be served, since the service's detector has five landmarks; `evaluate --checkpoint` measures it.

    Attributes:
        layout: `groups`: one channel for each of six points (eyes, nose tip, mouth corners, chin); `points`: one for
            each of the detector's five landmarks; `dlib-68`, `mediapipe-468`: one for each point of this finder.
        sigma: Standard deviation of the Gaussian around each point, in pixels of a crop of 112 pixels.
        mask: Adds a last channel, which is 1 if the landmarks are known and 0 if they are not.
        missing: Fraction of the training pictures without landmarks, since stored crops of the service have none.
    """

    layout: Literal["groups", "points", "dlib-68", "mediapipe-468"] = "groups"
    sigma: float = Field(4.0, gt=0)
    mask: bool = True
    missing: Fraction = 0.1

    @property
    def points(self) -> int:
        """Number of points with a channel."""
        return {"groups": POINTS, "points": POINTS - 1, "dlib-68": 68, "mediapipe-468": 468}[self.layout]

    @property
    def count(self) -> int:
        """Number of channels."""
        return self.points + self.mask

    @property
    def finder(self) -> LandmarkFinderName | None:
        """The only finder that has these points; None: any."""
        finders = {"dlib-68": LandmarkFinderName.DLIB, "mediapipe-468": LandmarkFinderName.MEDIAPIPE}
        return finders.get(self.layout)

    @property
    def served(self) -> LandmarkChannels:
        """The settings that the bundle records. Raises ConfigError for a layout that the service cannot draw."""
        if self.finder is not None:
            raise ConfigError(
                f"a model with landmark channels {self.layout} cannot be served: the service's detector has five "
                "landmarks; use layout groups or points"
            )
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
