"""Boxes, letterboxes, tiles and overlaps. Boxes are (x_min, y_min, x_max, y_max) in pixels of the upright picture."""

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from service.vision.image import Pixels

Floats = npt.NDArray[np.float32]
PADDING_GREY = 114
"""Grey level of the padding with which Ultralytics trains detectors."""


@dataclass(frozen=True)
class Letterbox:
    """Transform from a picture to a canvas of a width and height: `canvas = picture * scale + (left, top)`."""

    scale: float
    left: float
    top: float
    width: int
    height: int

    def undo(self, points: Floats) -> Floats:
        """Returns the coordinates in the picture for (..., 2) coordinates in the canvas."""
        return ((points - np.array([self.left, self.top], np.float32)) / np.float32(self.scale)).astype(np.float32)


MAX_AVERAGED = 3
"""Pixels of a side whose mean a scaled-down pixel is, at most. A larger picture is first scaled to that size, with
bilinear interpolation, which is several times as fast as the mean of all pixels."""


def letterbox(pixels: Pixels, size: int, stride: int | None = None, margin: int = 0) -> tuple[Pixels, Letterbox]:
    """Scales a picture up or down so that its longer side has `size` pixels, and centres it on a grey canvas.

    Args:
        stride: the canvas is the smallest one whose sides are multiples of `stride`; None: it is a square.
        margin: minimum number of grey pixels beside the shorter side, on both sides together. The canvas is not larger
            than the square.
    """
    height, width = pixels.shape[:2]
    scale = size / max(height, width)
    new_width, new_height = max(1, round(width * scale)), max(1, round(height * scale))
    if (new_width, new_height) != (width, height):
        pixels = _scaled(pixels, new_width, new_height, scale)
    step = size if stride is None else stride
    canvas_width, canvas_height = (min(-(-(side + margin) // step) * step, size) for side in (new_width, new_height))
    left, top = (canvas_width - new_width) // 2, (canvas_height - new_height) // 2
    canvas = np.full((canvas_height, canvas_width, 3), PADDING_GREY, np.uint8)
    canvas[top : top + new_height, left : left + new_width] = pixels
    return canvas, Letterbox(scale, left, top, canvas_width, canvas_height)


def turned_back(points: Floats, turns: int, width: int, height: int) -> Floats:
    """Returns the coordinates in a picture for (..., 2) coordinates in `np.rot90(picture, turns)`.

    Args:
        width, height: size of the picture in pixels.
    """
    x, y = points[..., 0], points[..., 1]
    turned = [(x, y), (width - y, x), (width - x, height - y), (y, height - x)][turns % 4]
    return np.stack(turned, axis=-1)


def _scaled(pixels: Pixels, width: int, height: int, scale: float) -> Pixels:
    if scale >= 0.5:
        return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
    if scale * (MAX_AVERAGED + 1) < 1:
        averaged = MAX_AVERAGED * width, MAX_AVERAGED * height
        pixels = np.asarray(cv2.resize(pixels, averaged, interpolation=cv2.INTER_LINEAR), np.uint8)
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def tile_starts(length: int, side: int, overlap: int) -> list[int]:
    """Returns the first pixels of evenly spaced tiles that cover a length.

    Args:
        side: side of the tiles in pixels.
        overlap: minimum number of pixels that neighbours have in common.
    """
    if length <= side:
        return [0]
    count = math.ceil((length - overlap) / (side - overlap))
    return [round(index * (length - side) / (count - 1)) for index in range(count)]


def area(boxes: Floats) -> Floats:
    """Returns the areas of (..., 4) boxes; 0 for a box with a negative side."""
    sides = np.maximum(boxes[..., 2:] - boxes[..., :2], 0)
    return sides[..., 0] * sides[..., 1]


def iou(box: Floats, boxes: Floats) -> Floats:
    """Returns the (n,) intersections over union of one box with (n, 4) boxes, 0 to 1."""
    low = np.maximum(boxes[:, :2], box[:2])
    high = np.minimum(boxes[:, 2:], box[2:])
    common = area(np.concatenate([low, high], axis=1))
    union = area(boxes) + area(box) - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


def suppress_overlaps(boxes: Floats, scores: Floats, max_iou: float) -> npt.NDArray[np.intp]:
    """Returns the indices of the boxes that greedy non-maximum suppression keeps, in descending order of scores.

    Args:
        boxes: (n, 4).
        scores: (n,).
        max_iou: maximum intersection over union of two boxes that are kept.
    """
    order = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    while order.size:
        best, order = int(order[0]), order[1:]
        kept.append(best)
        order = order[iou(boxes[best], boxes[order]) <= max_iou]
    return np.asarray(kept, np.intp)
