"""YuNet, the face detector of OpenCV."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from service.inference.engine import Detection
from service.vision.image import Pixels
from trainer.configuration import ConfigError

YUNET_MIN_SCORE = 0.6
"""Scores are 0 to 1; faces below this score do not count."""
LOWEST_SCORE = 0.02
NMS_THRESHOLD = 0.45
MAX_FACES = 5000


class YuNet:
    """Runs YuNet at the size of each picture.

    Raises:
        ConfigError: The file is not YuNet's model.
    """

    def __init__(self, path: Path, min_score: float = LOWEST_SCORE) -> None:
        try:
            self._detector = cv2.FaceDetectorYN.create(str(path), "", (320, 320), min_score, NMS_THRESHOLD, MAX_FACES)
        except cv2.error as error:
            raise ConfigError(f"{path} is not YuNet's ONNX model: {error}") from None

    def detect(self, pictures: Sequence[Pixels]) -> list[list[Detection]]:
        return [self._detect_one(picture) for picture in pictures]

    def _detect_one(self, picture: Pixels) -> list[Detection]:
        self._detector.setInputSize((picture.shape[1], picture.shape[0]))
        _, rows = self._detector.detect(np.ascontiguousarray(picture[..., ::-1]))
        detections = []
        for row in rows if rows is not None else []:
            x, y, width, height = (float(value) for value in row[:4])
            landmarks = np.concatenate([row[4:14].reshape(5, 2), np.ones((5, 1))], axis=1).astype(np.float32)
            detections.append(Detection((x, y, x + width, y + height), float(row[14]), landmarks))
        return detections
