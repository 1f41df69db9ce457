"""Draws boxes and names of faces into pictures."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import supervision

from service.vision.image import Pixels

GREEN, ORANGE, GREY = supervision.Color(22, 120, 62), supervision.Color(176, 84, 0), supervision.Color(84, 92, 104)
"""Match, no match, no decision. White text has a contrast of more than 4.5 on each (WCAG 2.2, 1.4.3)."""
PALETTE = supervision.ColorPalette([GREEN, ORANGE, GREY])
MATCH, NO_MATCH, UNDECIDED = range(3)
SIDE = 640
"""Side in pixels of a picture in which lines and letters have their normal size."""


def draw(pixels: Pixels, boxes: Sequence[Sequence[float]], labels: Sequence[str], colors: Sequence[int]) -> Pixels:
    """Returns a copy of a picture, (height, width, 3) RGB, with labelled boxes.

    Args:
        boxes: x_min, y_min, x_max, y_max in pixels.
        colors: MATCH, NO_MATCH or UNDECIDED for each box.
    """
    picture = np.ascontiguousarray(pixels[..., ::-1])
    if not boxes:
        return picture[..., ::-1]
    detections = supervision.Detections(np.array(boxes, np.float32), class_id=np.array(colors))
    scale = max(1.0, max(picture.shape[:2]) / SIDE)
    box = supervision.BoxAnnotator(PALETTE, thickness=round(2 * scale))
    picture = box.annotate(picture, detections)
    return np.ascontiguousarray(_text(labels, scale).annotate(picture, detections, labels=list(labels))[..., ::-1])


def _text(labels: Sequence[str], scale: float) -> Any:
    """Returns the annotator of the labels. OpenCV's letters are ASCII; Pillow has the others and takes more time."""
    padding = round(5 * scale)
    if all(label.isascii() for label in labels):
        thickness = max(1, round(scale))
        return supervision.LabelAnnotator(
            PALETTE, text_scale=0.5 * scale, text_thickness=thickness, text_padding=padding
        )
    return supervision.RichLabelAnnotator(PALETTE, font_size=round(16 * scale), text_padding=padding)
