"""JPEG files without their last bytes: which rows the file contains.

libjpeg-turbo decodes such a file and invents the missing rows. This module decodes the file twice, with two different
continuations: a row that is the same in both is one that the file determines.
"""

import warnings

import numpy as np
import simplejpeg

from service.vision.jpeg import Buffer, Pixels, finished, metadata, upright

Rectangle = tuple[int, int, int, int]
"""x_min, y_min, x_max, y_max in pixels."""
GREY = 114
"""Of missing rows: the grey level that detectors are trained to ignore."""
END = b"\xff\xd9"
ANYTHING = np.random.default_rng(1).integers(0, 255, 4096, dtype=np.uint8).tobytes()
"""Bytes that decode to random blocks. They contain no 255, with which a marker begins."""
STRIP_ROWS = 256


def decode_incomplete(data: bytes, buffer: Buffer, min_rows: int) -> tuple[Pixels, Rectangle] | None:
    """Returns the upright pixels in memory of `buffer`, and the rectangle of those that the file contains.

    The others are grey.

    Args:
        min_rows: minimum number of rows that the file must contain.

    Returns:
        None for a file that contains fewer rows.
    """
    data = data.rstrip(b"\xff")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            height, width, *_ = simplejpeg.decode_jpeg_header(data)
            other = simplejpeg.decode_jpeg(data + ANYTHING + END, "RGB", strict=False)
            pixels = simplejpeg.decode_jpeg(data + END, "RGB", strict=False, buffer=buffer(height, width))
        orientation, profile = metadata(data)
    except (ValueError, OSError, SyntaxError):
        return None
    if (rows := _first_difference(pixels, other)) < min_rows:
        return None
    pixels[rows:] = GREY
    return finished(pixels, orientation, profile, buffer), _visible(height, width, rows, orientation)


def _visible(height: int, width: int, rows: int, orientation: int) -> Rectangle:
    """Returns the rectangle of the first rows of a picture, after the picture has been turned upright."""
    index = upright(np.broadcast_to(np.arange(height)[:, None], (height, width)), orientation)
    if orientation > 4:  # rows have become columns
        shown = np.flatnonzero(index[0] < rows)
        return int(shown[0]), 0, int(shown[-1]) + 1, width
    shown = np.flatnonzero(index[:, 0] < rows)
    return 0, int(shown[0]), width, int(shown[-1]) + 1


def _first_difference(pixels: Pixels, other: Pixels) -> int:
    """Returns the index of the first row that differs, or the number of rows."""
    for top in range(0, len(pixels), STRIP_ROWS):
        strip = slice(top, top + STRIP_ROWS)
        differing = np.flatnonzero((pixels[strip] != other[strip]).any(axis=(1, 2)))
        if len(differing):
            return top + int(differing[0])
    return len(pixels)
