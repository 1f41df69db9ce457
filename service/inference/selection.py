"""Which of the detected faces is meant."""

from collections.abc import Sequence

import numpy as np

from service.inference.engine import Box, Detection, FaceChoice
from service.vision.geometry import Floats, area, iou

SMALLEST_OVERLAP = 0.3
"""Intersection over union from which on a detection counts as the face in the caller's box."""


PULL_TO_CENTRE = 0.5
"""How much of its weight a face loses on the way from the picture's centre to a corner."""


def select(
    detections: Sequence[Detection], choice: FaceChoice, box: Box | None, picture_size: tuple[int, int]
) -> list[int]:
    """Indices of the chosen detections; empty where the choice fits none.

    `strongest` is the most prominent one: large, surely a face, and near the centre of the (width, height) picture.
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
        scores = np.array([detection.score for detection in detections], np.float32)
        return [int(np.argmax(sides * scores * (1 - PULL_TO_CENTRE * _eccentricity(boxes, picture_size))))]
    if box is None:
        raise ValueError("choosing by box needs a box")
    overlaps = iou(np.array(box, np.float32), boxes)
    best = int(np.argmax(overlaps))
    return [best] if overlaps[best] >= SMALLEST_OVERLAP else []


def _eccentricity(boxes: Floats, picture_size: tuple[int, int]) -> Floats:
    """How far each box's middle lies from the picture's: 0 there, 1 in a corner."""
    half = np.array(picture_size, np.float32) / 2
    offsets = (boxes[:, :2] + boxes[:, 2:]) / 2 - half
    return np.asarray(np.linalg.norm(offsets, axis=1) / np.linalg.norm(half), np.float32)
