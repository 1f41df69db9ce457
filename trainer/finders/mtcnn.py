"""MTCNN of facenet-pytorch (Zhang et al., IEEE Signal Processing Letters 2016; Tim Esler, MIT)."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from service.inference.engine import Detection
from service.vision.image import Pixels
from trainer.configuration import missing_package

MTCNN_MIN_SCORE = 0.9
MIN_SIDE_PX = 20
"""MTCNN's image pyramid has no level for smaller pictures."""


class Mtcnn:
    """Runs MTCNN on the CPU with the weights of its package.

    requirements/trainer-tools.lock pins the package without its dependencies, which would replace torch with an older
    version.

    Raises:
        ConfigError: The package is not installed.
    """

    def __init__(self, min_score: float = MTCNN_MIN_SCORE) -> None:
        try:
            from facenet_pytorch import MTCNN
        except ImportError:
            raise missing_package("mtcnn", "facenet-pytorch") from None
        self._model: Any = MTCNN(keep_all=True, device="cpu", min_face_size=MIN_SIDE_PX)
        self._min_score = min_score

    def detect(self, pictures: Sequence[Pixels]) -> list[list[Detection]]:
        return [self._detect_one(picture) for picture in pictures]

    def _detect_one(self, picture: Pixels) -> list[Detection]:
        boxes = scores = landmarks = None
        if min(picture.shape[:2]) >= MIN_SIDE_PX:
            boxes, scores, landmarks = self._model.detect(picture, landmarks=True)
        if boxes is None or scores is None or landmarks is None:
            return []
        detections = []
        for box, score, points in zip(boxes, scores, landmarks, strict=True):
            if float(score) >= self._min_score:
                with_confidence = np.column_stack([np.asarray(points, np.float32), np.ones(5, np.float32)])
                detections.append(Detection(tuple(float(value) for value in box), float(score), with_confidence))  # type: ignore[arg-type]
        return sorted(detections, key=lambda face: -face.score)
