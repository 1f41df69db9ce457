"""Candidate faces of a picture and of its tiles, before overlapping ones are removed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.vision.geometry import area, tile_starts
from service.vision.image import Pixels

Floats = npt.NDArray[np.float32]
MAX_TILES = 64
"""Maximum number of tiles per picture. A larger picture gets larger tiles, which are scaled down."""
MIN_TILE_OVERLAP = 0.25
"""Minimum share of a tile's side that neighbours have in common. A face up to this size is complete in one tile."""
WHOLE_PICTURE_FACE_PX = 20
"""A face of this size in the scaled-down whole picture is detected there, so the tiles' overlap must have at least this
size in the whole picture."""
PART_OF_FACE = 0.6
"""A box of a tile is dropped if more than this share of it lies in a box of the whole picture and if its area is less
than this share of that box's area."""
EDGE_PX = 2
"""A box that is this close to an inner edge of a tile may show an incomplete face and is dropped."""


@dataclass(frozen=True)
class View:
    """An input of the detector: a whole picture, or a tile of it whose upper left corner is (left, top).

    Attributes:
        row: index of the picture in the call.
        size: side of the graph's input in pixels.
    """

    row: int
    pixels: Pixels
    size: int
    left: int = 0
    top: int = 0


@dataclass(frozen=True)
class Candidates:
    """Detections that may overlap: (n, 4) boxes, (n,) scores and (n, 5, 3) landmarks, in pixels of the picture."""

    boxes: Floats
    scores: Floats
    landmarks: Floats

    def select(self, rows: npt.ArrayLike) -> "Candidates":
        """Returns the candidates for which the (n,) Boolean `rows` is True."""
        kept = np.asarray(rows, bool)
        return Candidates(self.boxes[kept], self.scores[kept], self.landmarks[kept])


def concatenate(parts: Sequence[Candidates]) -> Candidates:
    return Candidates(
        np.concatenate([part.boxes for part in parts]),
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.landmarks for part in parts]),
    )


def tile_grid(height: int, width: int, input_size: int) -> tuple[int, list[int], list[int]]:
    """Returns the side of a picture's tiles, and the first pixels of their rows and columns; at most `MAX_TILES`."""
    side = input_size
    while True:
        whole_picture_face = WHOLE_PICTURE_FACE_PX * max(height, width) / input_size
        overlap = min(round(max(MIN_TILE_OVERLAP * side, whole_picture_face)), side // 2)
        tops, lefts = tile_starts(height, side, overlap), tile_starts(width, side, overlap)
        if len(tops) * len(lefts) <= MAX_TILES:
            return side, tops, lefts
        side = math.ceil(side * 1.25)


def without_parts(tile: Candidates, whole: Candidates) -> Candidates:
    """Drops candidates of a tile that are a part of a larger face of the whole picture, such as an eye."""
    if not len(tile.scores) or not len(whole.scores):
        return tile
    low = np.maximum(tile.boxes[:, None, :2], whole.boxes[None, :, :2])
    high = np.minimum(tile.boxes[:, None, 2:], whole.boxes[None, :, 2:])
    sizes, common = area(tile.boxes)[:, None], area(np.concatenate([low, high], axis=2))
    is_part = (common > PART_OF_FACE * sizes) & (sizes < PART_OF_FACE * area(whole.boxes)[None])
    return tile.select(~is_part.any(axis=1))


def without_incomplete(candidates: Candidates, view: View, picture: Pixels) -> Candidates:
    """Drops candidates at an edge of a tile that is not an edge of the picture; a neighbour shows the complete face."""
    height, width = picture.shape[:2]
    bottom, right = view.top + view.pixels.shape[0], view.left + view.pixels.shape[1]
    low = np.array([view.left if view.left else -np.inf, view.top if view.top else -np.inf]) + EDGE_PX
    high = np.array([right if right < width else np.inf, bottom if bottom < height else np.inf]) - EDGE_PX
    complete = (candidates.boxes[:, :2] > low).all(axis=1) & (candidates.boxes[:, 2:] < high).all(axis=1)
    return candidates.select(complete)
