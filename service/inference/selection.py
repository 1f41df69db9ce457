"""Which of the detected faces is meant."""

from collections.abc import Sequence

import numpy as np

from service.inference.engine import Box, Detection, FaceChoice
from service.vision.geometry import area, iou

SMALLEST_OVERLAP = 0.3
"""Intersection over union from which on a detection counts as the face in the caller's box."""


def select(detections: Sequence[Detection], choice: FaceChoice, box: Box | None) -> list[int]:
    """Indices of the chosen detections; empty where the choice fits none.

    `only` chooses nothing where there are several: embedding them would be wasted.
    """
    if not detections:
        return []
    boxes = np.array([detection.box for detection in detections], np.float32)
    sides = np.sqrt(area(boxes))
    if choice is FaceChoice.ALL:
        return list(range(len(detections)))
    if choice is FaceChoice.ONLY:
        return [0] if len(detections) == 1 else []
    if choice is FaceChoice.LARGEST:
        return [int(np.argmax(sides))]
    if choice is FaceChoice.STRONGEST:
        return [int(np.argmax(sides * np.array([detection.score for detection in detections], np.float32)))]
    if box is None:
        raise ValueError("choosing by box needs a box")
    overlaps = iou(np.array(box, np.float32), boxes)
    best = int(np.argmax(overlaps))
    return [best] if overlaps[best] >= SMALLEST_OVERLAP else []
