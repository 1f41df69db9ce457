"""Candidate faces in the views of a picture, before overlapping ones are removed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.inference.views import View
from service.vision.geometry import area
from service.vision.image import Pixels

Floats = npt.NDArray[np.float32]
PART_OF_FACE = 0.6
"""A box of a tile is dropped if more than this share of it lies in a box of the whole picture and if its area is less
than this share of that box's area."""
EDGE_PX = 2
"""A box that is this close to an inner edge of a tile may show an incomplete face and is dropped."""


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
    if view.is_whole:
        return candidates
    height, width = picture.shape[:2]
    bottom, right = view.top + view.pixels.shape[0], view.left + view.pixels.shape[1]
    low = np.array([view.left if view.left else -np.inf, view.top if view.top else -np.inf]) + EDGE_PX
    high = np.array([right if right < width else np.inf, bottom if bottom < height else np.inf]) - EDGE_PX
    complete = (candidates.boxes[:, :2] > low).all(axis=1) & (candidates.boxes[:, 2:] < high).all(axis=1)
    return candidates.select(complete)
