"""Locates six landmarks (eyes, nose tip, mouth corners, chin) in an aligned crop."""

from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from service.inference.engine import FaceFinder
from service.vision.heatmaps import six_points
from service.vision.image import Pixels
from trainer.finders.mediapipe import MediaPipe

Floats = npt.NDArray[np.float32]


class LandmarkFinder(Protocol):
    """Returns (6, 3) x, y, confidence of the face in the middle of a crop, in pixels; None if there is no face."""

    def __call__(self, crop: Pixels) -> Floats | None: ...


class DetectorLandmarks:
    """Returns the five landmarks of the face nearest to the middle, and a chin that is estimated as in the service."""

    def __init__(self, finder: FaceFinder) -> None:
        self._finder = finder

    def __call__(self, crop: Pixels) -> Floats | None:
        faces = [face.landmarks for face in self._finder.detect([crop])[0] if face.landmarks is not None]
        if not faces:
            return None
        middle = len(crop) / 2
        return six_points(min(faces, key=lambda points: float(np.abs(points[:, :2].mean(axis=0) - middle).sum())))


class MediaPipeLandmarks:
    """Selects the six landmarks among MediaPipe's 478 points; the chin is detected, not estimated."""

    CHIN = 152
    MESH = 468
    """Number of points of the face; the remaining ten are those of the irises."""

    def __init__(self, model: Path) -> None:
        self._finder = MediaPipe(model)

    def __call__(self, crop: Pixels) -> Floats | None:
        faces = self._finder.points(crop)
        if not faces:
            return None
        six = np.concatenate([self._finder.five(faces[0]), faces[0][self.CHIN][None]])
        return np.column_stack([six, np.ones(len(six))]).astype(np.float32)

    def every(self, crop: Pixels) -> Floats | None:
        """Returns the 468 points of the face, (468, 3), in pixels of the crop; None if there is no face."""
        faces = self._finder.points(crop)
        if not faces:
            return None
        return np.column_stack([faces[0][: self.MESH], np.ones(self.MESH)]).astype(np.float32)
