"""Decodes ordinary JPEG files with libjpeg-turbo, straight into a buffer and, if wanted, scaled down.

Scaling during decoding leaves out the high frequencies of each block of 8 x 8 pixels, so that a quarter of a picture of
12 megapixels takes two thirds of the time of the whole, and its copies take a quarter. All other files, and all errors,
are left to Pillow (`service.vision.image`).
"""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

from service.vision.colours import to_srgb_in_place

Pixels = npt.NDArray[np.uint8]
Buffer = Callable[[int, int], Pixels]
"""Returns memory for the pixels of a picture, (height, width, 3), given its height and width. Each call returns the
same memory."""
COLOURS = ("YCbCr", "RGB", "Gray")
HEADER_BYTES = 128 * 1024
MARKS = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/", b"ICC_PROFILE\0"
"""A picture with an orientation or a colour profile has one of these marks among its first bytes."""
ORIENTATION = 0x0112
FACTORS = (8, 4, 2, 1)
"""Factors by which a picture is scaled down. The decoder computes powers of two fastest."""


def decode_jpeg(
    data: bytes, limits: tuple[int, int], min_longer_side: int | None, buffer: Buffer
) -> tuple[Pixels, int, int] | None:
    """Returns the upright pixels, and the width and height of the picture before it was scaled down.

    Args:
        limits: minimum side and maximum number of pixels of the picture.
        min_longer_side: the picture is scaled down by the largest factor that keeps this number of pixels; None: it is
            not scaled down.

    Returns:
        None for another format, a picture outside the limits, unusual colours, and damaged or truncated files.
    """
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    min_side, max_pixels = limits
    if colours not in COLOURS or min(width, height) < min_side or width * height > max_pixels:
        return None
    wanted = max(width, height) if min_longer_side is None else min_longer_side
    factor = next((factor for factor in FACTORS if max(width, height) >= factor * wanted), 1)
    rows, columns = -(-height // factor), -(-width // factor)
    try:
        orientation, profile = metadata(data)
        pixels = simplejpeg.decode_jpeg(
            data, "RGB", min_height=rows, min_width=columns, min_factor=factor, buffer=buffer(rows, columns)
        )
    except Exception:  # Pillow decides whether the file can be decoded, and reports why not.
        return None
    pixels = finished(pixels, orientation, profile, buffer)
    return (pixels, height, width) if orientation > 4 else (pixels, width, height)


def finished(pixels: Pixels, orientation: int, profile: bytes | None, buffer: Buffer) -> Pixels:
    """Returns upright sRGB pixels, in the memory of `buffer` that the pixels are in."""
    to_srgb_in_place(pixels, profile)
    turned = upright(pixels, orientation)
    if turned is not pixels:
        copied = np.ascontiguousarray(turned)
        pixels = buffer(*copied.shape[:2])
        pixels[:] = copied
    return pixels


def metadata(data: bytes) -> tuple[int, bytes | None]:
    """Returns the orientation in EXIF or XMP, 1 to 8, and the colour profile; 1 means upright and is the default."""
    if all(data.find(mark, 0, HEADER_BYTES) < 0 for mark in MARKS):
        return 1, None
    picture = Image.open(io.BytesIO(data), formats=("JPEG",))
    orientation = picture.getexif().get(ORIENTATION, 1)  # Pillow reads XMP if EXIF has no orientation
    return (orientation if orientation in range(1, 9) else 1), picture.info.get("icc_profile")


def upright(pixels: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """Returns a view of (height, width, …) pixels in which the picture is upright (CIPA DC-008, tag Orientation)."""
    if orientation in (2, 4, 5, 7):  # mirrored
        pixels = pixels[:, ::-1]
    turns = {3: 2, 4: 2, 5: 1, 6: 3, 7: 3, 8: 1}.get(orientation, 0)
    return np.rot90(pixels, turns) if turns else pixels
