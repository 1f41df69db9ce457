"""Detectors that can be measured and that can label: our bundles, OpenCV's YuNet."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from service.inference.engine import Detection
from service.vision.image import Pixels

YUNET_MIN_SCORE = 0.6
"""Score from which on a face of YuNet's counts."""


class YuNet:
    """OpenCV's YuNet, at the size of each picture."""

    def __init__(self, path: Path, min_score: float = 0.02) -> None:
        self._detector = cv2.FaceDetectorYN.create(str(path), "", (320, 320), min_score, 0.45, 5000)

    def detect(self, pictures: Sequence[Pixels]) -> list[list[Detection]]:
        return [self._one(picture) for picture in pictures]

    def _one(self, picture: Pixels) -> list[Detection]:
        self._detector.setInputSize((picture.shape[1], picture.shape[0]))
        _, rows = self._detector.detect(np.ascontiguousarray(picture[..., ::-1]))
        found = []
        for row in rows if rows is not None else []:
            x, y, width, height = (float(value) for value in row[:4])
            points = np.concatenate([row[4:14].reshape(5, 2), np.ones((5, 1))], axis=1).astype(np.float32)
            found.append(Detection((x, y, x + width, y + height), float(row[14]), points))
        return found


class UltralyticsCheckpoint:
    """Any Ultralytics `.pt` that knows faces, run by Ultralytics itself.

    Loading a checkpoint executes code that it holds: name only files that you trust.

    Raises:
        ValueError: the model knows several things and none of them is called "face".
    """

    def __init__(self, path: Path, image_size: int = 640, min_score: float = 0.02) -> None:
        import trainer.quiet_ultralytics  # noqa: F401  isort: skip
        from ultralytics.models import YOLO

        self._model: Any = YOLO(str(path))
        names: dict[int, str] = self._model.names
        faces = [number for number, name in names.items() if name.lower() == "face"]
        if not faces and len(names) > 1:
            raise ValueError(f"{path} finds {', '.join(names.values())}; none of these is a face")
        self._classes = faces or [0]
        self._options = {"imgsz": image_size, "conf": min_score, "iou": 0.5, "rect": False, "verbose": False}

    def detect(self, pictures: Sequence[Pixels]) -> list[list[Detection]]:
        return [self._one(picture) for picture in pictures]

    def _one(self, picture: Pixels) -> list[Detection]:
        result = self._model.predict(
            np.ascontiguousarray(picture[..., ::-1]), classes=self._classes, max_det=5000, **self._options
        )[0].cpu()
        landmarks = None
        if result.keypoints is not None and result.keypoints.data.shape[1:] == (5, 3):
            landmarks = result.keypoints.data.numpy().astype(np.float32)
        return [
            Detection(tuple(map(float, box)), float(score), None if landmarks is None else landmarks[row])  # type: ignore[arg-type]
            for row, (box, score) in enumerate(zip(result.boxes.xyxy, result.boxes.conf, strict=True))
        ]
