"""Applies image filters to aligned crops."""

from collections.abc import Sequence

import cv2
import numpy as np

from service.vision.filters import Filters
from service.vision.image import Pixels


def apply(crop: Pixels, filters: Filters) -> Pixels:
    """Returns a filtered copy of an RGB crop, or the crop itself if no filter is set."""
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
