"""Decodes picture files to upright RGB pixels. All limits are checked before pixels are decoded."""

import io
import struct
import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pi_heif
from PIL import Image, ImageOps, UnidentifiedImageError

from service.errors import ImageTooCostly, ImageTooLarge, ImageTooSmall, ImageTruncated, ImageUnreadable
from service.vision.colours import converter
from service.vision.formats import FORMATS, NAMES, describe_raw_tiff, describe_unknown, raw_by_signature
from service.vision.incomplete_jpeg import Rectangle, decode_incomplete
from service.vision.jpeg import Buffer, decode_jpeg

Pixels = npt.NDArray[np.uint8]
"""(height, width, 3) RGB."""
MAKER = 271
"""The TIFF tag with the name of the camera's maker."""
MIN_SIDE = 16
"""Minimum width and height of a picture in pixels."""
JPEG_START, JPEG_SCAN = b"\xff\xd8", b"\xff\xda"
MAX_SCANS = 100
"""Maximum number of scans of a progressive JPEG. Encoders write about ten; each one costs a pass over all pixels."""
STRIP_ROWS = 256
"""Rows that are converted at the same time, so that a conversion needs little memory."""

Image.MAX_IMAGE_PIXELS = None  # `load` checks the number of pixels itself, for all formats.
pi_heif.register_heif_opener()


@dataclass(frozen=True)
class ImageLimits:
    """Limits of a picture: size of the file in bytes, and number of pixels according to its header."""

    max_bytes: int = 20 * 1024**2
    max_pixels: int = 50_000_000


@dataclass(frozen=True, slots=True)
class DecodedPicture:
    """Upright pixels, which may be scaled down, and the width and height in pixels before that.

    Attributes:
        visible: (x_min, y_min, x_max, y_max) of the pixels that the file contains, before the scaling; None: all. A
            JPEG file can end before its last rows, which are grey then.
    """

    pixels: Pixels
    width: int
    height: int
    visible: Rectangle | None = None

    @property
    def scales(self) -> tuple[float, float]:
        """Width and height before the scaling, divided by those of the pixels."""
        return self.width / self.pixels.shape[1], self.height / self.pixels.shape[0]

    @property
    def is_reduced(self) -> bool:
        return self.pixels.shape[:2] != (self.height, self.width)


def decode(data: bytes, limits: ImageLimits) -> Pixels:
    """Decodes a picture file like `decode_into`, and returns all of its pixels."""
    return decode_into(data, limits, new_memory, None).pixels


def decode_into(data: bytes, limits: ImageLimits, buffer: Buffer, min_longer_side: int | None) -> DecodedPicture:
    """Decodes a file of one of `formats.FORMATS` to sRGB pixels in a buffer, and applies its orientation.

    Args:
        min_longer_side: a JPEG file with more pixels is scaled down while it is decoded, so that its longer side keeps
            at least this number of pixels; None: it is not scaled down.

    Raises:
        ImageTooLarge: the file has too many bytes or its header declares too many pixels.
        ImageTooSmall: a side has fewer than `MIN_SIDE` pixels.
        ImageTooCostly: the file has too many scans, or decoding it needs more memory than the process may use.
        ImageTruncated: the file ends before the last pixel, and is no JPEG whose first rows can be decoded.
        ImageUnreadable: the file has another format or is damaged.
    """
    require_size(data, limits)
    if data.startswith(JPEG_START):
        if (scans := data.count(JPEG_SCAN)) > MAX_SCANS:
            raise ImageTooCostly(
                f"the JPEG has {scans} scans; at most {MAX_SCANS} are allowed: save it as baseline JPEG"
            )
        if (decoded := decode_jpeg(data, (MIN_SIDE, limits.max_pixels), min_longer_side, buffer)) is not None:
            return DecodedPicture(*decoded)
    try:
        picture = _load(data, limits)
    except ImageTruncated:
        if (incomplete := _decode_incomplete(data, buffer)) is None:
            raise
        return incomplete
    pixels = buffer(picture.height, picture.width)
    _copy_pixels(picture, pixels)
    return DecodedPicture(pixels, picture.width, picture.height)


def _decode_incomplete(data: bytes, buffer: Buffer) -> DecodedPicture | None:
    """Decodes a JPEG file that ends before its last rows; None: too few rows can be decoded.

    Of a progressive file, no row is complete: all scans refine all rows.
    """
    if not data.startswith(JPEG_START) or "progressive" in _open(data).info:
        return None
    try:
        decoded = decode_incomplete(data, buffer, MIN_SIDE)
    except MemoryError:
        raise _needs_memory() from None
    if decoded is None:
        return None
    pixels, visible = decoded
    return DecodedPicture(pixels, pixels.shape[1], pixels.shape[0], visible)


def new_memory(height: int, width: int) -> Pixels:
    """Returns new memory for the pixels of a picture."""
    return np.empty((height, width, 3), np.uint8)


def _load(data: bytes, limits: ImageLimits) -> Image.Image:
    """Decodes a file with Pillow, and returns an upright picture in the colour mode of the file."""
    picture = _open(data)
    _require_pixels(picture, limits)
    width, height = picture.size
    if min(width, height) < MIN_SIDE:
        raise ImageTooSmall(
            f"the picture has {width} x {height} pixels; each side needs at least {MIN_SIDE}: send a larger picture"
        )
    _load_pixels(picture)
    _require_pixels(picture, limits)  # a HEIC file may contain more pixels than its header declares
    _turn_upright(picture)
    return picture


def require_size(data: bytes, limits: ImageLimits) -> None:
    """Raises ImageTooLarge if the file has too many bytes."""
    if len(data) > limits.max_bytes:
        raise ImageTooLarge(f"the file has {len(data):,} bytes; at most {limits.max_bytes:,} are allowed: compress it")


def _copy_pixels(picture: Image.Image, target: Pixels) -> None:
    """Writes a picture as RGB into `target`, (height, width, 3). Raises ImageTooCostly, ImageUnreadable."""
    try:
        to_rgb = converter(picture)
        for top in range(0, picture.height, STRIP_ROWS):
            bottom = min(top + STRIP_ROWS, picture.height)
            target[top:bottom] = to_rgb(picture.crop((0, top, picture.width, bottom)))
    except MemoryError:
        raise _needs_memory() from None
    except (ValueError, OSError, SyntaxError) as error:
        raise _damaged(error) from None


def _require_pixels(picture: Image.Image, limits: ImageLimits) -> None:
    width, height = picture.size
    if width * height > limits.max_pixels:
        raise ImageTooLarge(
            f"the picture has {width} x {height} pixels; at most {limits.max_pixels:,} are allowed: scale it down"
        )


def encode(pixels: Pixels) -> bytes:
    """Returns RGB pixels as a PNG file, which is lossless."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _open(data: bytes) -> Image.Image:
    if (raw := raw_by_signature(data)) is not None:
        raise _not_supported(f"is {raw}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picture = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise _not_supported(describe_unknown(data)) from None
    except MemoryError:
        raise _needs_memory() from None
    except Exception as error:  # Decoders raise any kind of exception on a damaged header.
        raise ImageUnreadable(
            f"the file's header is damaged ({type(error).__name__}); send another copy of the file"
        ) from None
    if picture.format == "TIFF":
        tags = dict(getattr(picture, "tag_v2", {}))
        if (raw := describe_raw_tiff(tags, str(tags.get(MAKER, "")).strip("\0 "))) is not None:
            raise _not_supported(f"is {raw}")
    return picture


def _not_supported(description: str) -> ImageUnreadable:
    return ImageUnreadable(f"the file {description}; the service reads {NAMES}: convert it to JPEG")


def _load_pixels(picture: Image.Image) -> None:
    try:
        picture.load()
    except MemoryError:
        raise _needs_memory() from None
    except Exception as error:  # Decoders raise any kind of exception on damaged content.
        if "truncated" in str(error).lower() or isinstance(error, EOFError | struct.error):
            raise ImageTruncated(
                "the file ends before the last pixel; the upload may be incomplete, send the file again"
            ) from None
        raise _damaged(error) from None


def _turn_upright(picture: Image.Image) -> None:
    try:
        ImageOps.exif_transpose(picture, in_place=True)
    except MemoryError:
        raise _needs_memory() from None
    except Exception:  # Without readable EXIF data the pixels are used as they are stored.
        return


def _needs_memory() -> ImageTooCostly:
    return ImageTooCostly(
        "decoding the picture needs more memory than limits.max_decode_memory_mb allows; scale it down"
    )


def _damaged(error: Exception) -> ImageUnreadable:
    return ImageUnreadable(f"the file's content is damaged ({type(error).__name__}); send another copy of the file")
