"""Landmarks as pictures of their own, stacked on the colours of a crop, for models that were trained with them.

Six points, left before right in the picture: eyes, nose tip, mouth corners, chin. A detector of five has no chin: it is
taken to lie below the mouth, three quarters as far as the mouth lies below the eyes.
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
"""Which point a mirror picture has in the place of each."""
CHIN = 0.75
TEMPLATE_SIZE = 112


class LandmarkChannels(Strict):
    """Which channels follow red, green and blue.

    Attributes:
        layout: `groups`: one for each of the six points; `points`: the five that the detector sees, without the chin.
        sigma: of the Gaussian around each point, in pixels of a crop of 112.
        mask: a last channel that is 1 where the landmarks are known and 0 where they are not (a crop that came alone).
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
        """The order of these channels in a mirror picture."""
        return [*MIRRORED[: self.points], *([self.points] if self.mask else [])]


def six_points(landmarks: Floats) -> Floats:
    """(6, 3) x, y, confidence from a detector's (5, 3)."""
    eyes, mouth = landmarks[:2].mean(axis=0), landmarks[3:5].mean(axis=0)
    chin = mouth + np.float32(CHIN) * (mouth - eyes)
    chin[2] = landmarks[:, 2].min()
    return np.concatenate([landmarks, chin[None]]).astype(np.float32)


def render(faces: Sequence[Floats | None], size: int, channels: LandmarkChannels) -> Floats:
    """(n, channels.count, size, size) for n faces.

    Args:
        faces: (6, 3) points each in pixels of the crop; a point of confidence 0 is left out. None: none is known.
    """
    planes = np.zeros((len(faces), channels.count, size, size), np.float32)
    sigma = channels.sigma * size / TEMPLATE_SIZE
    axis = np.arange(size, dtype=np.float32)
    for row, points in enumerate(faces):
        if points is None:
            continue
        for number, (x, y, confidence) in enumerate(points[: channels.points]):
            if confidence > 0:
                across, down = (np.exp(-((axis - place) ** 2) / (2 * sigma**2)) for place in (x, y))
                planes[row, number] = down[:, None] * across[None, :]
        if channels.mask:
            planes[row, -1] = float((points[:, 2] > 0).any())
    return planes
