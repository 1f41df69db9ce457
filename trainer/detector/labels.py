"""Label files of an Ultralytics pose data set: one face a line, in fractions of the picture."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
LANDMARKS = 5


@dataclass(frozen=True)
class LabelledFace:
    """A face in pixels of its picture.

    Attributes:
        box: (4,) corners.
        landmarks: (5, 3) x, y and whether the point is to be seen (0: hidden or unknown).
    """

    box: Floats
    landmarks: Floats

    def moved(self, scale: Floats, shift: Floats) -> "LabelledFace":
        """The same face in a picture that was scaled and then shifted by (x, y)."""
        landmarks = self.landmarks.copy()
        landmarks[:, :2] = landmarks[:, :2] * scale + shift
        return LabelledFace(self.box * np.tile(scale, 2) + np.tile(shift, 2), landmarks)


def read_labels(path: Path, width: int, height: int) -> list[LabelledFace]:
    """The faces of a picture; none where it has no file.

    Raises:
        ValueError: a line has neither 5 nor 20 numbers.
    """
    lines = path.read_text().splitlines() if path.exists() else []
    return [_read_line(line, width, height, path) for line in lines if line.strip()]


def write_labels(path: Path, faces: Iterable[LabelledFace], width: int, height: int) -> None:
    """Write a picture's faces; landmarks that are hidden keep their line's place as zeros."""
    path.write_text("".join(_line(face, width, height) + "\n" for face in faces))


def _read_line(line: str, width: int, height: int, path: Path) -> LabelledFace:
    values = np.array(line.split(), np.float32)
    if values.size not in (5, 5 + 3 * LANDMARKS):
        raise ValueError(f"{path}: {values.size} numbers in a line where 5 or {5 + 3 * LANDMARKS} are due")
    size = np.array([width, height], np.float32)
    centre, sides = values[1:3] * size, values[3:5] * size
    landmarks = values[5:].reshape(-1, 3) if values.size > 5 else np.zeros((LANDMARKS, 3), np.float32)
    landmarks = landmarks * np.array([width, height, 1], np.float32)
    return LabelledFace(np.concatenate([centre - sides / 2, centre + sides / 2]), landmarks)


def _line(face: LabelledFace, width: int, height: int) -> str:
    size = np.array([width, height], np.float32)
    low, high = np.clip(face.box[:2] / size, 0, 1), np.clip(face.box[2:] / size, 0, 1)
    points = face.landmarks.copy()
    points[:, :2] /= size
    seen = (points[:, 2] > 0) & (points[:, :2] >= 0).all(axis=1) & (points[:, :2] <= 1).all(axis=1)
    numbers = [f"{value:.5f}" for value in (*((low + high) / 2), *(high - low))]
    for (x, y, _), visible in zip(points, seen, strict=True):
        numbers += [f"{x:.5f}", f"{y:.5f}", "2"] if visible else ["0", "0", "0"]
    return " ".join(["0", *numbers])
