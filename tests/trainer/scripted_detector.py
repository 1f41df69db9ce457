"""A detector with fixed detections, and five landmarks for them."""

from collections.abc import Sequence

import numpy as np

from service.inference.engine import Detection


class Scripted:
    """Returns the same detections for every picture."""

    def __init__(self, *detections: Detection) -> None:
        self._detections = list(detections)

    def detect(self, pictures: Sequence[np.ndarray]) -> list[list[Detection]]:
        return [list(self._detections) for _ in pictures]


def five(left: float, top: float) -> np.ndarray:
    points = np.array([[20, 25], [50, 25], [35, 45], [24, 60], [46, 60]], np.float32) + np.array([left, top])
    return np.concatenate([points, np.ones((5, 1))], axis=1).astype(np.float32)
