"""From the bytes of a picture file to upright RGB pixels, with every limit checked before a pixel is decoded."""

import io
import struct
import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pi_heif
from PIL import Image, ImageOps, UnidentifiedImageError

from service.errors import ImageTooLarge, ImageTooSmall, ImageTruncated, ImageUnreadable

Pixels = npt.NDArray[np.uint8]
"""(height, width, 3) RGB."""

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "HEIF")
SMALLEST_SIDE = 16

Image.MAX_IMAGE_PIXELS = None  # our own limit is checked on the header, for every format and without a warning
pi_heif.register_heif_opener()


@dataclass(frozen=True)
class ImageLimits:
    """What a picture may cost: bytes of its file and pixels that its header declares."""

    max_bytes: int = 20 * 1024**2
    max_pixels: int = 50_000_000


def decode(data: bytes, limits: ImageLimits) -> Pixels:
    """Decode JPEG, PNG, WebP, BMP or HEIC, obey its EXIF orientation, and return RGB.

    Raises:
        ImageUnreadable, ImageTruncated, ImageTooLarge, ImageTooSmall
    """
    if len(data) > limits.max_bytes:
        raise ImageTooLarge(f"the file has {len(data):,} bytes; at most {limits.max_bytes:,} are allowed")
    picture = _open(data)
    width, height = picture.size
    if width * height > limits.max_pixels:
        raise ImageTooLarge(
            f"the picture declares {width} x {height} pixels; at most {limits.max_pixels:,} are allowed: scale it down"
        )
    if min(width, height) < SMALLEST_SIDE:
        raise ImageTooSmall(f"the picture has {width} x {height} pixels; each side needs at least {SMALLEST_SIDE}")
    return _to_rgb(_upright(_load(picture)))


def encode(pixels: Pixels) -> bytes:
    """RGB pixels as a PNG file: `decode` gives the same pixels back."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def declared_pixels(data: bytes) -> int:
    """How many pixels a file says that it has, 0 where its header can't be read. Decodes nothing."""
    try:
        width, height = _open(data).size
    except ImageUnreadable:
        return 0
    return width * height


def _open(data: bytes) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise ImageUnreadable("the file is none of JPEG, PNG, WebP, BMP and HEIC") from None
    except Exception as error:  # decoders raise whatever they like on a damaged header
        raise ImageUnreadable(f"the file's header is damaged ({type(error).__name__})") from None


def _load(picture: Image.Image) -> Image.Image:
    try:
        picture.load()
    except Exception as error:  # as above, now on damaged content
        if "truncated" in str(error).lower() or isinstance(error, EOFError | struct.error):
            raise ImageTruncated("the file ends before the last pixel; was the upload cut off?") from None
        raise ImageUnreadable(f"the file's content is damaged ({type(error).__name__})") from None
    return picture


def _upright(picture: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(picture)
    except Exception:  # damaged EXIF says nothing about the orientation: the pixels count
        return picture


def _to_rgb(picture: Image.Image) -> Pixels:
    if picture.mode.startswith("I") or picture.mode == "F":
        grey = (np.asarray(picture, dtype=np.float32) / 257).clip(0, 255).astype(np.uint8)  # 16 bits to 8
        return np.repeat(grey[..., None], 3, axis=2)
    return np.asarray(picture.convert("RGB"))
