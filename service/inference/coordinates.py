"""Coordinates of a whole picture, and of its pixels, which may be scaled down."""

from dataclasses import replace

import numpy as np

from service.inference.engine import Box, Detection
from service.vision.image import DecodedPicture


def in_pixels(box: Box, size: tuple[int, int]) -> Box:
    """Returns a box in pixels. Numbers up to 1 are shares of width and height: no face has a side of one pixel."""
    if max(box) > 1:
        return box
    width, height = size
    return box[0] * width, box[1] * height, box[2] * width, box[3] * height


def inside(box: Box, size: tuple[int, int]) -> Box:
    """Returns the part of a box inside a picture of this width and height; its sides can be negative."""
    x_min, y_min, x_max, y_max = box
    return max(x_min, 0.0), max(y_min, 0.0), min(x_max, float(size[0])), min(y_max, float(size[1]))


def enlarged(detection: Detection, picture: DecodedPicture) -> Detection:
    """Returns a detection in pixels of the whole picture."""
    if not picture.is_reduced:
        return detection
    x, y = picture.scales
    x_min, y_min, x_max, y_max = detection.box
    landmarks = detection.landmarks
    if landmarks is not None:
        landmarks = landmarks * np.array([x, y, 1], np.float32)
    return replace(detection, box=(x_min * x, y_min * y, x_max * x, y_max * y), landmarks=landmarks)


def shorter_side(box: Box) -> float:
    x_min, y_min, x_max, y_max = box
    return min(x_max - x_min, y_max - y_min)
