"""InsightFace's SCRFD detector, to compare with. Its weights are for non-commercial research; we ship none of them.

Guo et al., "Sample and Computation Redistribution for Efficient Face Detection", ICLR 2022. Outputs per stride 8, 16
and 32 and two anchors a place: a score, the distances to the four sides of the box, and five landmark offsets.
"""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import onnxruntime

from service.inference.engine import Detection
from service.vision.geometry import suppress_overlaps
from service.vision.image import Pixels

Floats = npt.NDArray[np.float32]
STRIDES = (8, 16, 32)
ANCHORS = 2
MAX_IOU = 0.4


class Scrfd:
    """Each picture scaled into the upper left of a square, as its authors do."""

    def __init__(self, path: Path, size: int = 640, min_score: float = 0.02, threads: int = 2) -> None:
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = threads
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        self._size, self._min_score = size, min_score

    def detect(self, pictures: Sequence[Pixels]) -> list[list[Detection]]:
        return [self._one(picture) for picture in pictures]

    def _one(self, picture: Pixels) -> list[Detection]:
        height, width = picture.shape[:2]
        scale = self._size / max(height, width)
        small = cv2.resize(picture, (round(width * scale), round(height * scale)))
        square = np.zeros((self._size, self._size, 3), np.float32)
        square[: small.shape[0], : small.shape[1]] = small
        outputs = self._session.run(None, {self._input: ((square - 127.5) / 128).transpose(2, 0, 1)[None]})
        boxes, scores, landmarks = (np.concatenate(part) for part in zip(*self._by_stride(outputs), strict=True))
        boxes, landmarks = boxes / scale, landmarks / scale
        return [
            Detection(
                tuple(map(float, boxes[row])),  # type: ignore[arg-type]
                float(scores[row]),
                np.column_stack([landmarks[row], np.ones(5, np.float32)]),
            )
            for row in suppress_overlaps(boxes, scores, MAX_IOU)
        ]

    def _by_stride(self, outputs: Sequence[Floats]) -> list[tuple[Floats, Floats, Floats]]:
        found = []
        for level, stride in enumerate(STRIDES):
            scores = outputs[level][:, 0]
            side = self._size // stride
            grid = np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1).reshape(-1, 2) * stride
            places = np.repeat(grid, ANCHORS, axis=0).astype(np.float32)
            kept = scores >= self._min_score
            places, distances = places[kept], outputs[level + 3][kept] * stride
            points = outputs[level + 6][kept].reshape(-1, 5, 2) * stride + places[:, None]
            boxes = np.concatenate([places - distances[:, :2], places + distances[:, 2:]], axis=1)
            found.append((boxes, scores[kept], points))
        return found
