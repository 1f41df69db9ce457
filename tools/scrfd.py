"""InsightFace's SCRFD detector, for comparison. Its weights are for non-commercial research only and are not shipped.

Guo et al., "Sample and Computation Redistribution for Efficient Face Detection", ICLR 2022. The graph returns, for each
stride of 8, 16 and 32 pixels and two anchors per cell, a score, the distances to the four sides of the box, and the
offsets of five landmarks.
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
    """Runs SCRFD. Each picture is scaled into the upper left corner of a square, as in the authors' code.

    Args:
        size: side of the square in pixels.
        min_score: minimum score of a detection, 0 to 1.
    """

    def __init__(self, path: Path, size: int = 640, min_score: float = 0.02, threads: int = 2) -> None:
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = threads
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        self._size, self._min_score = size, min_score

    def detect(self, pictures: Sequence[Pixels]) -> list[list[Detection]]:
        return [self._detect_one(picture) for picture in pictures]

    def _detect_one(self, picture: Pixels) -> list[Detection]:
        height, width = picture.shape[:2]
        scale = self._size / max(height, width)
        small = cv2.resize(picture, (round(width * scale), round(height * scale)))
        square = np.zeros((self._size, self._size, 3), np.float32)
        square[: small.shape[0], : small.shape[1]] = small
        outputs = self._session.run(None, {self._input: ((square - 127.5) / 128).transpose(2, 0, 1)[None]})
        boxes, scores, landmarks = (np.concatenate(part) for part in zip(*self._decode(outputs), strict=True))
        boxes, landmarks = boxes / scale, landmarks / scale
        return [
            Detection(
                tuple(map(float, boxes[row])),  # type: ignore[arg-type]
                float(scores[row]),
                np.column_stack([landmarks[row], np.ones(5, np.float32)]),
            )
            for row in suppress_overlaps(boxes, scores, MAX_IOU)
        ]

    def _decode(self, outputs: Sequence[Floats]) -> list[tuple[Floats, Floats, Floats]]:
        """Returns for each stride (N, 4) boxes, (N,) scores and (N, 5, 2) landmarks in pixels of the square."""
        decoded = []
        for level, stride in enumerate(STRIDES):
            scores = outputs[level][:, 0]
            side = self._size // stride
            grid = np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1).reshape(-1, 2) * stride
            centres = np.repeat(grid, ANCHORS, axis=0).astype(np.float32)
            kept = scores >= self._min_score
            centres, distances = centres[kept], outputs[level + 3][kept] * stride
            points = outputs[level + 6][kept].reshape(-1, 5, 2) * stride + centres[:, None]
            boxes = np.concatenate([centres - distances[:, :2], centres + distances[:, 2:]], axis=1)
            decoded.append((boxes, scores[kept], points))
        return decoded
