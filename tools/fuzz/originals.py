"""Intact pictures of real people in every format and variant that the decoder accepts. Mutations start from them."""

import functools
import io
import random
import struct
import zlib
from collections.abc import Iterator

import numpy as np
import pillow_heif
from PIL import Image, ImageCms

from service.demo.photos import packaged_cast
from tools.fuzz.segments import PNG, chunk

ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
"""First row and column, and distances of rows and columns, of the passes of an interlaced PNG file (PNG, 8.2)."""
SMALL, FACE_SIDE = 56, 200
"""Sides in pixels: small pictures are decoded fast; a face of 200 pixels is detected."""
FACE = (148, 40, 348, 240)
"""Box of a face in the first portrait of the demo."""


@functools.cache
def face() -> bytes:
    """Returns a JPEG picture in which the detector finds one face."""
    with Image.open(packaged_cast().people[0].enrolled[0]) as picture:
        return _saved(picture.convert("RGB").crop(FACE), "JPEG", quality=85)


@functools.cache
def pictures() -> dict[str, list[bytes]]:
    """Returns the intact files by format."""
    with Image.open(packaged_cast().people[0].enrolled[0]) as picture:
        portrait = picture.convert("RGB").crop(FACE).resize((SMALL, SMALL))
    files: dict[str, list[bytes]] = {}
    for name, data in _variants(portrait):
        files.setdefault(name, []).append(data)
    return files


def choose(rng: random.Random) -> tuple[bytes, bytes]:
    """Returns two intact files of one format; in one of twenty cases the formats differ."""
    files = pictures()
    name = rng.choice(list(files))
    other = rng.choice(list(files)) if rng.random() < 0.05 else name
    return rng.choice(files[name]), rng.choice(files[other])


def _variants(picture: Image.Image) -> Iterator[tuple[str, bytes]]:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: rotated by 90 degrees
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    grey, wide = picture.convert("L"), picture.resize((SMALL * 2, 17))
    for options in ({}, {"progressive": True}, {"exif": exif, "icc_profile": profile}, {"restart_marker_blocks": 2}):
        yield "JPEG", _saved(picture, "JPEG", quality=70, **options)
    for other in (grey, picture.convert("CMYK"), wide):
        yield "JPEG", _saved(other, "JPEG", quality=50, progressive=other is wide)
    for mode in ("RGB", "RGBA", "L", "LA", "P", "1"):
        yield "PNG", _saved(picture.convert(mode), "PNG", transparency=0 if mode == "P" else None)
    yield "PNG", _saved(picture, "PNG", icc_profile=profile, exif=exif)
    yield "PNG", _saved(Image.fromarray(np.asarray(grey).astype(np.uint16) * 257), "PNG")
    yield "PNG", _saved(picture, "PNG", save_all=True, append_images=[wide.resize(picture.size)])
    yield "PNG", _png(np.asarray(picture).astype(">u2") * 257, interlaced=False)
    yield "PNG", _png(np.asarray(picture), interlaced=True)
    for options in ({}, {"lossless": True}, {"exif": exif, "icc_profile": profile}):
        yield "WebP", _saved(picture, "WEBP", quality=60, **options)
    yield "WebP", _saved(picture.convert("RGBA"), "WEBP", quality=60)
    yield "WebP", _saved(picture, "WEBP", save_all=True, append_images=[grey.convert("RGB")], duration=40)
    for mode in ("RGB", "L", "P", "1"):
        yield "BMP", _saved(picture.convert(mode), "BMP")
    for other in (picture, picture.convert("RGBA"), grey):
        buffer = io.BytesIO()
        pillow_heif.from_pillow(other).save(buffer, quality=40)
        yield "HEIC", buffer.getvalue()


def _saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **{name: value for name, value in options.items() if value is not None})
    return buffer.getvalue()


def _png(pixels: np.ndarray, interlaced: bool) -> bytes:
    """Returns (height, width, 3) pixels, uint8 or big-endian uint16, as a PNG file, which Pillow cannot write."""
    height, width = pixels.shape[:2]
    passes = ADAM7 if interlaced else ((0, 0, 1, 1),)
    planes = [pixels[row::rows, column::columns] for row, column, rows, columns in passes]
    rows = b"".join(b"\x00" + line.tobytes() for plane in planes for line in plane if line.size)
    header = struct.pack(">LLBBBBB", width, height, 8 * pixels.dtype.itemsize, 2, 0, 0, int(interlaced))
    return PNG + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
