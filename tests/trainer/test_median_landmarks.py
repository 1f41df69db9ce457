"""Landmarks as the median over altered views of a picture."""

from collections.abc import Sequence

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.inference.engine import Detection
from tests.trainer.labelled_face import POINTS
from tests.trainer.scripted_detector import Scripted
from trainer.detector.median_landmarks import MedianLandmarkDetector, View


class Blobs:
    """Detects a face of five white dots on black at the exact positions of the dots."""

    def detect(self, pictures: Sequence[np.ndarray]) -> list[list[Detection]]:
        return [[self._detect_one(picture[..., 0].astype(np.float64))] for picture in pictures]

    def _detect_one(self, light: np.ndarray) -> Detection:
        _, _, _, centres = cv2.connectedComponentsWithStats((light > 60).astype(np.uint8))
        points = centres[1:] + 0.5
        upper, lower = points[np.argsort(points[:, 1])][:2], points[np.argsort(points[:, 1])][3:]
        nose = points[np.argsort(points[:, 1])][2]
        five = [*sorted(upper.tolist()), nose.tolist(), *sorted(lower.tolist())]
        landmarks = np.concatenate([np.array(five), np.ones((5, 1))], axis=1).astype(np.float32)
        (left, top), (right, bottom) = landmarks[:, :2].min(axis=0) - 10, landmarks[:, :2].max(axis=0) + 20
        return Detection((float(left), float(top), float(right), float(bottom)), 0.9, landmarks)


def dots() -> np.ndarray:
    picture = np.zeros((140, 120, 3), np.uint8)
    for x, y in POINTS[:, :2].astype(int):
        picture[y - 3 : y + 4, x - 3 : x + 4] = 255
    return picture


@given(st.booleans(), st.floats(0.8, 1.25), st.integers(0, 9), st.integers(0, 9))
def test_a_view_is_inverted(mirrored: bool, scale: float, right: int, down: int) -> None:
    view = View(mirrored, scale, right, down)
    (face,), (in_view,) = Blobs().detect([dots()])[0], Blobs().detect([view.apply(dots())])[0]
    inverted = view.invert(in_view, 120)
    assert inverted.landmarks is not None
    assert face.landmarks is not None
    np.testing.assert_allclose(inverted.landmarks, face.landmarks, atol=1.5)
    assert inverted.box[0] < inverted.box[2]
    assert inverted.box[1] < inverted.box[3]


class Noisy(Blobs):
    """Displaces the landmarks by 8 pixels in every third call."""

    def __init__(self) -> None:
        self._calls = 0

    def _detect_one(self, light: np.ndarray) -> Detection:
        self._calls += 1
        face = super()._detect_one(light)
        assert face.landmarks is not None
        noise = np.array([8, 8, 0], np.float32) * (self._calls % 3 == 1)
        return Detection(face.box, face.score, face.landmarks + noise)


def test_the_median_over_views_removes_noise() -> None:
    (truth,) = Blobs().detect([dots()])[0]
    (noisy,) = Noisy().detect([dots()])[0]
    (median,) = MedianLandmarkDetector(Noisy()).detect([dots()])[0]
    assert noisy.landmarks is not None
    assert median.landmarks is not None
    assert truth.landmarks is not None
    assert np.abs(noisy.landmarks - truth.landmarks).max() == pytest.approx(8)
    assert np.abs(median.landmarks - truth.landmarks).max() < 1
    assert median.box == noisy.box
    assert MedianLandmarkDetector(Scripted()).detect([dots()]) == [[]]
