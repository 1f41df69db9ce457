"""Filters of an aligned crop that a model was trained with: the service runs what the bundle names, nothing else."""

from collections.abc import Sequence

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from service.vision.image import Pixels


class _Filter(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Clahe(_Filter):
    """Contrast-limited adaptive histogram equalisation of the lightness (Zuiderveld 1994), in `tiles` x `tiles`."""

    clip_limit: float = Field(2.0, gt=0)
    tiles: int = Field(8, ge=1, le=32)


class Bilateral(_Filter):
    """Smooths what differs little and keeps edges (Tomasi and Manduchi 1998); sigmas in levels and in pixels."""

    diameter: int = Field(5, ge=1, le=25)
    sigma_colour: float = Field(50.0, gt=0)
    sigma_space: float = Field(50.0, gt=0)


class Filters(_Filter):
    """Of a crop at the model's input size; the bilateral one first, so that noise is not equalised."""

    bilateral: Bilateral | None = None
    clahe: Clahe | None = None

    @property
    def any(self) -> bool:
        return self.bilateral is not None or self.clahe is not None


def apply(crop: Pixels, filters: Filters) -> Pixels:
    """A filtered copy of an RGB crop; the crop itself where there is no filter."""
    if (bilateral := filters.bilateral) is not None:
        smooth = cv2.bilateralFilter(crop, bilateral.diameter, bilateral.sigma_colour, bilateral.sigma_space)
        crop = np.asarray(smooth, np.uint8)
    if (clahe := filters.clahe) is not None:
        lab = cv2.cvtColor(crop, cv2.COLOR_RGB2LAB)
        equaliser = cv2.createCLAHE(clahe.clip_limit, (clahe.tiles, clahe.tiles))
        lab[..., 0] = equaliser.apply(np.ascontiguousarray(lab[..., 0]))
        crop = np.asarray(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB), np.uint8)
    return crop


def apply_all(crops: Sequence[Pixels], filters: Filters) -> list[Pixels]:
    return [apply(crop, filters) for crop in crops] if filters.any else list(crops)
