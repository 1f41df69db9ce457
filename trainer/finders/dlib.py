"""dlib's shape predictor of 68 points (Kazemi and Sullivan, CVPR 2014)."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from service.vision.image import Pixels
from trainer.configuration import ConfigError, missing_package

POINTS = 68


class DlibLandmarks:
    """Locates the six landmarks of an aligned crop with a predictor file of 68 points.

    The widespread predictor file was trained on iBUG 300-W, whose terms exclude commercial use.

    Raises:
        ConfigError: The package is not installed, or the file is not a predictor of 68 points.
    """

    GROUPS = (slice(36, 42), slice(42, 48), slice(30, 31), slice(48, 49), slice(54, 55), slice(8, 9))
    """The points whose means are left eye, right eye, nose tip, left and right mouth corner, and chin."""

    def __init__(self, predictor: Path) -> None:
        try:
            import dlib
        except ImportError:
            raise missing_package("dlib", "dlib-bin") from None
        try:
            self._predict = dlib.shape_predictor(str(predictor))
        except RuntimeError as error:
            raise ConfigError(f"{predictor} is not a shape predictor of dlib: {error}") from None
        self._rectangle = dlib.rectangle

    def __call__(self, crop: Pixels) -> npt.NDArray[np.float32] | None:
        points = self.every(crop)
        return np.stack([points[group].mean(axis=0) for group in self.GROUPS])

    def every(self, crop: Pixels) -> npt.NDArray[np.float32]:
        """Returns all 68 points, (68, 3), in pixels of the crop."""
        quarter = len(crop) // 4  # the face fills the middle half of the crop
        box = self._rectangle(quarter, quarter, 3 * quarter, 3 * quarter)
        shape = self._predict(np.ascontiguousarray(crop), box)
        points = np.array([(point.x, point.y, 1.0) for point in shape.parts()], np.float32)
        if len(points) != POINTS:
            raise ConfigError(f"the shape predictor returns {len(points)} points; name a predictor of {POINTS} points")
        return points
