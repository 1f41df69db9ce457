"""Renders landmarks as heatmaps: further input channels of models that were trained with them.

There are six points, left before right in the picture: eyes, nose tip, mouth corners, chin. Detectors have five
landmarks, so the chin is estimated: its distance below the mouth is 0.75 times the distance of the mouth from the eyes.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from service.strict_model import Strict

Floats = npt.NDArray[np.float32]
POINTS = 6
MIRRORED = (1, 0, 2, 4, 3, 5)
"""Index of the point that takes the place of each point in the mirror image."""
CHIN = 0.75
"""Distance of the chin from the mouth, relative to that of the mouth from the eyes."""
TEMPLATE_SIZE = 112


class LandmarkChannels(Strict):
    """Channels after red, green and blue in the input of a model.

    Attributes:
        layout: `groups`: one channel for each of the six points; `points`: one for each of the five landmarks of the
            detector, without the chin.
        sigma: standard deviation of the Gaussian around each point, in pixels of a crop of 112 pixels.
        mask: adds a last channel, which is 1 if the landmarks are known and 0 if they are not.
    """

    layout: Literal["groups", "points"] = "groups"
    sigma: float = Field(4.0, gt=0)
    mask: bool = True

    @property
    def points(self) -> int:
        return POINTS if self.layout == "groups" else POINTS - 1

    @property
    def count(self) -> int:
        return self.points + self.mask

    @property
    def mirrored(self) -> list[int]:
        """Order of these channels in a mirror image."""
        return [*MIRRORED[: self.points], *([self.points] if self.mask else [])]


def six_points(landmarks: Floats) -> Floats:
    """Returns (6, 3) points for a detector's (5, 3) landmarks: x, y and confidence.

    The confidence of the estimated chin is the lowest one of the landmarks.
    """
    eyes, mouth = landmarks[:2].mean(axis=0), landmarks[3:5].mean(axis=0)
    chin = mouth + np.float32(CHIN) * (mouth - eyes)
    chin[2] = landmarks[:, 2].min()
    return np.concatenate([landmarks, chin[None]]).astype(np.float32)


def render(faces: Sequence[Floats | None], size: int, channels: LandmarkChannels) -> Floats:
    """Returns the heatmaps of n faces, (n, channels.count, size, size), with values of 0 to 1.

    Args:
        faces: (6, 3) points of each face in pixels of the crop, or None if they are not known. The heatmap of a point
            with confidence 0 is empty.
        size: side of the crop in pixels.
    """
    planes = np.zeros((len(faces), channels.count, size, size), np.float32)
    sigma = channels.sigma * size / TEMPLATE_SIZE
    axis = np.arange(size, dtype=np.float32)
    for row, points in enumerate(faces):
        if points is None:
            continue
        for number, (x, y, confidence) in enumerate(points[: channels.points]):
            if confidence > 0:
                horizontal, vertical = (np.exp(-((axis - centre) ** 2) / (2 * sigma**2)) for centre in (x, y))
                planes[row, number] = vertical[:, None] * horizontal[None, :]
        if channels.mask:
            planes[row, -1] = float((points[:, 2] > 0).any())
    return planes
