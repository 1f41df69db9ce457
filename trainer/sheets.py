"""Picture sheets: tiles in rows, for visual inspection."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from service.vision.image import Pixels

TILE = 200
COLUMNS = 6
GREY = 40
JPEG_QUALITY = 88


def sheet(tiles: Sequence[Pixels], columns: int = COLUMNS, size: int = TILE) -> Pixels:
    """Returns the tiles in rows, each letterboxed into a square of `size` pixels; one grey square if there are none."""
    squares = [_letterboxed(tile, size) for tile in tiles] or [_grey_square(size)]
    columns = min(columns, len(squares))
    squares += [_grey_square(size)] * (-len(squares) % columns)
    rows = [np.hstack(squares[start : start + columns]) for start in range(0, len(squares), columns)]
    return np.vstack(rows)


def save(picture: Pixels, path: Path) -> None:
    """Writes an RGB picture as JPEG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])


def _letterboxed(tile: Pixels, size: int) -> Pixels:
    scale = size / max(tile.shape[:2])
    scaled = cv2.resize(tile, (max(1, round(tile.shape[1] * scale)), max(1, round(tile.shape[0] * scale))))
    square = _grey_square(size)
    top, left = (size - scaled.shape[0]) // 2, (size - scaled.shape[1]) // 2
    square[top : top + scaled.shape[0], left : left + scaled.shape[1]] = scaled
    return square


def _grey_square(size: int) -> Pixels:
    return np.full((size, size, 3), GREY, np.uint8)
