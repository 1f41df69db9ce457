"""Picture sheets: tiles in rows, for visual inspection."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from service.vision.image import Pixels

TILE = 200
COLUMNS = 6
GREY = 40
JPEG_QUALITY = 88


def sheet(
    tiles: Sequence[Pixels], columns: int = COLUMNS, size: int = TILE, captions: Sequence[str] | None = None
) -> Pixels:
    """Returns the tiles in rows, each letterboxed into a square of `size` pixels; one grey square if there are none.

    Args:
        captions: text below each tile.
    """
    squares = [_letterboxed(tile, size) for tile in tiles] or [_grey_square(size)]
    columns = min(columns, len(squares))
    if captions is not None and tiles:
        squares = [_with_caption(square, caption) for square, caption in zip(squares, captions, strict=True)]
    squares += [np.full_like(squares[0], GREY)] * (-len(squares) % columns)
    rows = [np.hstack(squares[start : start + columns]) for start in range(0, len(squares), columns)]
    return np.vstack(rows)


def save(picture: Pixels, path: Path) -> None:
    """Writes an RGB picture as JPEG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])


def _with_caption(square: Pixels, caption: str) -> Pixels:
    """Adds a white strip with the caption, shortened to the width of the tile."""
    size = square.shape[1]
    text_size = max(size // 11, 11)
    strip = Image.new("RGB", (size, text_size + 8), "white")
    draw, font = ImageDraw.Draw(strip), ImageFont.load_default(text_size)
    while draw.textlength(caption, font) > size - 4 and len(caption) > 1:
        caption = f"{caption[:-2]}…"
    draw.text((2, 2), caption, fill="black", font=font)
    return np.vstack([square, np.asarray(strip)])


def _letterboxed(tile: Pixels, size: int) -> Pixels:
    scale = size / max(tile.shape[:2])
    scaled = cv2.resize(tile, (max(1, round(tile.shape[1] * scale)), max(1, round(tile.shape[0] * scale))))
    square = _grey_square(size)
    top, left = (size - scaled.shape[0]) // 2, (size - scaled.shape[1]) // 2
    square[top : top + scaled.shape[0], left : left + scaled.shape[1]] = scaled
    return square


def _grey_square(size: int) -> Pixels:
    return np.full((size, size, 3), GREY, np.uint8)
