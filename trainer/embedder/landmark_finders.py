"""Landmarks of canvases by a finder's name."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from service.inference.bundle import file_sha256
from service.vision.image import Pixels
from trainer.configuration import ConfigError, choice
from trainer.embedder.canvas_landmarks import Dlib68, OfDetector, PointFinder, landmarks_of
from trainer.embedder.canvases import CanvasSet
from trainer.finders import Finder, FinderName, MediaPipe

Floats = npt.NDArray[np.float32]
DLIB = "dlib"


class MediaPipePoints:
    """Of MediaPipe's 478 points the six, the chin seen and not guessed."""

    CHIN = 152

    def __init__(self, model: Path) -> None:
        self._finder = MediaPipe(model)

    def __call__(self, canvas: Pixels) -> Floats | None:
        faces = self._finder.points(canvas)
        if not faces:
            return None
        five = self._finder.five(faces[0])
        six = np.concatenate([five, faces[0][self.CHIN][None]])
        return np.column_stack([six, np.ones(len(six))]).astype(np.float32)


def named_landmarks(canvases: CanvasSet, name: str, file: Path | None) -> Floats:
    """(N, 6, 3) landmarks of the canvases, by `dlib` or one of the detectors.

    Raises:
        ConfigError: no such finder, one that is not installed, or its model file is missing.
    """
    if name == DLIB:
        if file is None:
            raise ConfigError("dlib needs its shape predictor of 68 points: name it with --landmarks-file")
        if not file.is_file():
            raise ConfigError(f"{file}: no such predictor; dlib's models are not in its package")
        return landmarks_of(canvases, f"dlib {file_sha256(file)}", lambda: Dlib68(file))
    finder = Finder(choice(FinderName, name, "landmarks"), file)

    def opened() -> PointFinder:
        return MediaPipePoints(file) if finder.name is FinderName.MEDIAPIPE and file else OfDetector(finder())

    return landmarks_of(canvases, finder.described, opened)


def served_landmarks(canvases: CanvasSet) -> Floats:
    """(N, 6, 3) landmarks as the service finds them: by the shipped detector."""
    return named_landmarks(canvases, FinderName.YOLO, None)
