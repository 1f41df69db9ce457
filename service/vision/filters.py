"""Filters of an aligned crop that a model was trained with: the service runs what the bundle names, nothing else."""

from pydantic import Field

from service.strict_model import Strict


class Clahe(Strict):
    """Contrast-limited adaptive histogram equalisation of the lightness (Zuiderveld 1994), in `tiles` x `tiles`."""

    clip_limit: float = Field(2.0, gt=0)
    tiles: int = Field(8, ge=1, le=32)


class Bilateral(Strict):
    """Smooths what differs little and keeps edges (Tomasi and Manduchi 1998); sigmas in levels and in pixels."""

    diameter: int = Field(5, ge=1, le=25)
    sigma_colour: float = Field(50.0, gt=0)
    sigma_space: float = Field(50.0, gt=0)


class Filters(Strict):
    """Of a crop at the model's input size; the bilateral one first, so that noise is not equalised."""

    bilateral: Bilateral | None = None
    clahe: Clahe | None = None

    @property
    def any(self) -> bool:
        return self.bilateral is not None or self.clahe is not None
