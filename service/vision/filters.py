"""Parameters of the image filters that a bundle's manifest names: those with which its model was trained."""

from pydantic import Field

from service.strict_model import Strict


class Clahe(Strict):
    """Contrast-limited adaptive histogram equalisation of the lightness (Zuiderveld, "Graphics Gems IV", 1994).

    Attributes:
        clip_limit: maximum count of a bin of a region's histogram, as a multiple of the mean count.
        tiles: the crop is divided into `tiles` x `tiles` regions.
    """

    clip_limit: float = Field(2.0, gt=0)
    tiles: int = Field(8, ge=1, le=32)


class Bilateral(Strict):
    """Bilateral filter: smooths an image and preserves edges (Tomasi and Manduchi, ICCV 1998).

    Attributes:
        diameter: of the neighbourhood, in pixels.
        sigma_colour: in levels of 0 to 255.
        sigma_space: in pixels.
    """

    diameter: int = Field(5, ge=1, le=25)
    sigma_colour: float = Field(50.0, gt=0)
    sigma_space: float = Field(50.0, gt=0)


class Filters(Strict):
    """Filters of a crop at the model's input size. The bilateral one comes first, because CLAHE would amplify noise.

    Attributes:
        bilateral: bilateral filter; unset: not applied.
        clahe: adaptive histogram equalisation of the lightness; unset: not applied.
    """

    bilateral: Bilateral | None = None
    clahe: Clahe | None = None

    @property
    def any(self) -> bool:
        return self.bilateral is not None or self.clahe is not None
