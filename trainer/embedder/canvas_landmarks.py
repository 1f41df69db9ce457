"""Six landmarks of every canvas, found once."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from rich.progress import track

from service.inference.engine import FaceFinder
from service.vision.heatmaps import POINTS, six_points
from service.vision.image import Pixels
from trainer.configuration import ConfigError
from trainer.embedder.canvases import CANVAS, CanvasSet
from trainer.embedder.kept import kept

Floats = npt.NDArray[np.float32]


class PointFinder(Protocol):
    """Finds the six landmarks of the face in the middle of a canvas: (6, 3) x, y, confidence; None: it sees none."""

    def __call__(self, canvas: Pixels) -> Floats | None: ...


class OfDetector:
    """The landmarks of the detected face that is nearest to the middle, as the service finds them."""

    def __init__(self, finder: FaceFinder) -> None:
        self._finder = finder

    def __call__(self, canvas: Pixels) -> Floats | None:
        faces = [face.landmarks for face in self._finder.detect([canvas])[0] if face.landmarks is not None]
        if not faces:
            return None
        middle = CANVAS / 2
        return six_points(min(faces, key=lambda points: float(np.abs(points[:, :2].mean(axis=0) - middle).sum())))


class Dlib68:
    """dlib's 68 points (Kazemi and Sullivan, CVPR 2014) in groups, by a predictor file that its user names.

    The well-known file was trained on iBUG 300-W, whose terms exclude commercial use.

    Raises:
        ConfigError: dlib is not installed, or the file is no predictor.
    """

    GROUPS = (slice(36, 42), slice(42, 48), slice(30, 31), slice(48, 49), slice(54, 55), slice(8, 9))

    def __init__(self, predictor: Path) -> None:
        try:
            import dlib
        except ImportError:
            raise ConfigError("dlib is not installed: `bash tools/extras.sh python` installs it") from None
        try:
            self._predict = dlib.shape_predictor(str(predictor))
        except RuntimeError as error:
            raise ConfigError(f"{predictor} is not a shape predictor: {error}") from None
        self._rectangle = dlib.rectangle

    def __call__(self, canvas: Pixels) -> Floats | None:
        quarter = CANVAS // 4
        shape = self._predict(np.ascontiguousarray(canvas), self._rectangle(quarter, quarter, 3 * quarter, 3 * quarter))
        points = np.array([(point.x, point.y, 1.0) for point in shape.parts()], np.float32)
        if len(points) != 68:
            raise ConfigError(f"the predictor finds {len(points)} points, not 68")
        return np.stack([points[group].mean(axis=0) for group in self.GROUPS])


def landmarks_of(canvases: CanvasSet, name: str, open_finder: Callable[[], PointFinder]) -> Floats:
    """(N, 6, 3) landmarks in pixels of the canvases; confidence 0 where none was found. Kept beside the canvases.

    Args:
        name: of the finder and its model, which the kept file is told apart by.
    """
    key = hashlib.sha256(name.encode()).hexdigest()[:12]
    file = canvases.array.with_name(f"{canvases.array.stem}-landmarks-{key}.npy")
    return kept(file, lambda: _find_all(canvases, open_finder()))


def _find_all(canvases: CanvasSet, find: PointFinder) -> Floats:
    points = np.zeros((len(canvases), POINTS, 3), np.float32)
    for row in track(range(len(canvases)), description="finding landmarks"):
        if (found := find(np.asarray(canvases.pictures[row]))) is not None:
            points[row] = found
    return points
