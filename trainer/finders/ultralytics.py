"""Ultralytics checkpoints that detect faces."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from service.inference.engine import Detection
from service.vision.image import Pixels


class UltralyticsCheckpoint:
    """Runs an Ultralytics `.pt` checkpoint that detects faces.

    Loading a checkpoint executes code that the file contains: use only files that you trust.

    Raises:
        ValueError: The model has several classes and none of them is called "face".
    """

    def __init__(self, path: Path, image_size: int = 640, min_score: float = 0.02) -> None:
        import trainer.quiet_ultralytics  # noqa: F401  isort: skip
        from ultralytics.models import YOLO

        self._model: Any = YOLO(str(path))
        names: dict[int, str] = self._model.names
        faces = [number for number, name in names.items() if name.lower() == "face"]
        if not faces and len(names) > 1:
            raise ValueError(f"{path} detects {', '.join(names.values())}; use a checkpoint with the class face")
        self._classes = faces or [0]
        self._options = {"imgsz": image_size, "conf": min_score, "iou": 0.5, "rect": False, "verbose": False}

    def detect(self, pictures: Sequence[Pixels]) -> list[list[Detection]]:
        return [self._detect_one(picture) for picture in pictures]

    def _detect_one(self, picture: Pixels) -> list[Detection]:
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
