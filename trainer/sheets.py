"""Picture sheets: tiles in rows, for people who would rather look than read."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from service.vision.image import Pixels

TILE = 200
COLUMNS = 6


def sheet(tiles: Sequence[Pixels], columns: int = COLUMNS, size: int = TILE) -> Pixels:
    """Tiles letterboxed into squares of `size` pixels, row by row; a single grey one where there are none."""
    squares = [_fit(tile, size) for tile in tiles] or [np.full((size, size, 3), 40, np.uint8)]
    columns = min(columns, len(squares))
    squares += [np.full((size, size, 3), 40, np.uint8)] * (-len(squares) % columns)
    rows = [np.hstack(squares[start : start + columns]) for start in range(0, len(squares), columns)]
    return np.vstack(rows)


def save(picture: Pixels, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])


def _fit(tile: Pixels, size: int) -> Pixels:
    scale = size / max(tile.shape[:2])
    small = cv2.resize(tile, (max(1, round(tile.shape[1] * scale)), max(1, round(tile.shape[0] * scale))))
    square = np.full((size, size, 3), 40, np.uint8)
    top, left = (size - small.shape[0]) // 2, (size - small.shape[1]) // 2
    square[top : top + small.shape[0], left : left + small.shape[1]] = small
    return square
