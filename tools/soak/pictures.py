"""Pictures of 100 to 3,000 pixels, scaled from the photos of the demo."""

from base64 import b64encode
from dataclasses import dataclass

import cv2
import numpy as np

from service.demo.photos import packaged_cast
from tools.chaos.material import FACES

SMALLEST_PX, LARGEST_PX = 100, 3000
SIZES = 16
PORTRAITS_BELOW_PX = 600
"""Smaller pictures are scaled from a crop around the face, because the face of a whole photo would be too small."""


@dataclass(frozen=True)
class ScaledPicture:
    """A JPEG as Base64, the length of its longer side in pixels, and the number of the person whom it shows."""

    person: int
    side_px: int
    base64: str


def scaled_pictures() -> list[ScaledPicture]:
    """Returns each person in 16 sizes whose logarithms have equal distances."""
    sides = np.geomspace(SMALLEST_PX, LARGEST_PX, SIZES).round().astype(int).tolist()
    return [ScaledPicture(person, side, _scaled(person, side)) for person in range(len(FACES)) for side in sides]


def _scaled(person: int, side: int) -> str:
    index, (x0, y0, x1, y1) = FACES[person]
    picture = cv2.imread(str(packaged_cast().people[index].enrolled[0]))
    if picture is None:
        raise FileNotFoundError("a photo of the demo cannot be read; run `make setup` again")
    if side < PORTRAITS_BELOW_PX:
        picture = picture[y0:y1, x0:x1]
    factor = side / max(picture.shape[:2])
    scaled = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    return b64encode(cv2.imencode(".jpg", scaled)[1].tobytes()).decode()
