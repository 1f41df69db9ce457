"""Reads and writes label files of data sets in Ultralytics' pose format: one face per line.

A line is `class cx cy width height` and optionally five times `x y visibility`, in fractions of the
picture's width and height.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
LANDMARKS = 5
MIRRORED_ORDER = [1, 0, 2, 4, 3]
"""Indices of the landmarks of a mirrored face: left and right eye, and left and right mouth corner, are swapped."""


@dataclass(frozen=True)
class LabelledFace:
    """A face in pixels of its picture.

    Attributes:
        box: (4,) x_min, y_min, x_max, y_max.
        landmarks: (5, 3) x, y and visibility; 0 means hidden or unknown.
    """

    box: Floats
    landmarks: Floats

    def transformed(self, scale: Floats, shift: Floats) -> "LabelledFace":
        """Returns the face in a picture that was scaled by (2,) factors and then shifted by (2,) pixels."""
        landmarks = self.landmarks.copy()
        landmarks[:, :2] = landmarks[:, :2] * scale + shift
        return LabelledFace(self.box * np.tile(scale, 2) + np.tile(shift, 2), landmarks)


def read_labels(path: Path, width: int, height: int) -> list[LabelledFace]:
    """Reads the faces of a picture with this size in pixels. A missing file means no faces.

    Raises:
        ValueError: a line has neither 5 nor 20 numbers.
    """
    lines = path.read_text().splitlines() if path.exists() else []
    return [_parse_line(line, width, height, path) for line in lines if line.strip()]


def write_labels(path: Path, faces: Iterable[LabelledFace], width: int, height: int) -> None:
    """Writes the faces of a picture with this size in pixels. Landmarks that are not visible become zeros."""
    path.write_text("".join(_format_line(face, width, height) + "\n" for face in faces))


def _parse_line(line: str, width: int, height: int, path: Path) -> LabelledFace:
    values = np.array(line.split(), np.float32)
    if values.size not in (5, 5 + 3 * LANDMARKS):
        raise ValueError(
            f"{path}: {values.size} numbers in a line; a line needs 5 (class and box) or {5 + 3 * LANDMARKS} (class, "
            "box and landmarks)"
        )
    size = np.array([width, height], np.float32)
    centre, sides = values[1:3] * size, values[3:5] * size
    landmarks = values[5:].reshape(-1, 3) if values.size > 5 else np.zeros((LANDMARKS, 3), np.float32)
    landmarks = landmarks * np.array([width, height, 1], np.float32)
    return LabelledFace(np.concatenate([centre - sides / 2, centre + sides / 2]), landmarks)


def _format_line(face: LabelledFace, width: int, height: int) -> str:
    size = np.array([width, height], np.float32)
    low, high = np.clip(face.box[:2] / size, 0, 1), np.clip(face.box[2:] / size, 0, 1)
    points = face.landmarks.copy()
    points[:, :2] /= size
    visible = (points[:, 2] > 0) & (points[:, :2] >= 0).all(axis=1) & (points[:, :2] <= 1).all(axis=1)
    numbers = [f"{value:.5f}" for value in (*((low + high) / 2), *(high - low))]
    for (x, y, _), is_visible in zip(points, visible, strict=True):
        numbers += [f"{x:.5f}", f"{y:.5f}", "2"] if is_visible else ["0", "0", "0"]
    return " ".join(["0", *numbers])
