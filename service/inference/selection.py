"""Chooses which of the detected faces are embedded."""

from collections.abc import Sequence

import numpy as np

from service.inference.engine import Box, Detection, FaceChoice
from service.vision.geometry import Floats, area, iou

MIN_OVERLAP = 0.3
"""Minimum intersection over union of a detection with the box that the caller sent."""
CENTRE_PREFERENCE = 0.4
"""Share of its weight that a face loses between the centre and a corner of the picture."""


def select(
    detections: Sequence[Detection], choice: FaceChoice, box: Box | None, picture_size: tuple[int, int]
) -> list[int]:
    """Returns the indices of the chosen detections; an empty list if none matches.

    `FaceChoice.STRONGEST` chooses the largest product of the box's side, the detection score and the closeness to the
    centre. `FaceChoice.ONLY` chooses nothing if there are several faces, because the request will be refused.

    Args:
        box: the caller's box, for `FaceChoice.BOX`.
        picture_size: width and height in pixels.

    Raises:
        ValueError: the choice is `BOX` and there is no box.
    """
    if not detections:
        return []
    if choice is FaceChoice.ALL:
        return list(range(len(detections)))
    if choice is FaceChoice.ONLY:
        return [0] if len(detections) == 1 else []
    if choice in (FaceChoice.LARGEST, FaceChoice.STRONGEST):
        return [int(np.argmax(prominence(detections, choice, picture_size)))]
    if box is None:
        raise ValueError("the choice of a face by box requires a box")
    overlaps = iou(np.array(box, np.float32), _boxes(detections))
    best = int(np.argmax(overlaps))
    return [best] if overlaps[best] >= MIN_OVERLAP else []


def prominence(detections: Sequence[Detection], choice: FaceChoice, picture_size: tuple[int, int]) -> Floats:
    """Returns the (n,) values in pixels of which `FaceChoice.STRONGEST` or `LARGEST` chooses the largest.

    Args:
        picture_size: width and height in pixels.
    """
    boxes = _boxes(detections)
    sides = np.sqrt(area(boxes))
    if choice is FaceChoice.LARGEST:
        return np.asarray(sides, np.float32)
    scores = np.array([detection.score for detection in detections], np.float32)
    return np.asarray(sides * scores * (1 - CENTRE_PREFERENCE * _eccentricity(boxes, picture_size)), np.float32)


def _boxes(detections: Sequence[Detection]) -> Floats:
    return np.array([detection.box for detection in detections], np.float32)


def _eccentricity(boxes: Floats, picture_size: tuple[int, int]) -> Floats:
    """Returns the distance of each box's centre from the picture's centre: 0 at the centre, 1 in a corner."""
    half = np.array(picture_size, np.float32) / 2
    offsets = (boxes[:, :2] + boxes[:, 2:]) / 2 - half
    return np.asarray(np.linalg.norm(offsets, axis=1) / np.linalg.norm(half), np.float32)
