"""Pictures that are small as files and costly to decode."""

import io
import struct
import zlib
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image

SIDE = 7000
"""Width and height in pixels; 49 megapixels are below the default limit."""


def smooth(side: int = SIDE) -> Image.Image:
    """Returns a picture of smooth random colours, which compresses well."""
    small = np.random.default_rng(0).integers(0, 255, (side // 64, side // 64, 3), np.uint8)
    return Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC)


def encoded(picture: Image.Image, file_format: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, file_format, **options)
    return file.getvalue()


def scaled(photo: bytes, height: int) -> bytes:
    """Returns a photo with another height as JPEG."""
    picture = Image.open(io.BytesIO(photo)).convert("RGB")
    return encoded(picture.resize((picture.width * height // picture.height, height)), "JPEG")


def many_scans(scans: int = 1500) -> bytes:
    """Returns a progressive JPEG with this many additional refinement scans of four bytes each."""
    data = encoded(smooth(), "JPEG", progressive=True, quality=30)
    last, end = data.rindex(b"\xff\xda"), data.rindex(b"\xff\xd9")
    header = data[last : last + 2 + int.from_bytes(data[last + 2 : last + 4], "big")]
    return data[:end] + (header + bytes(4)) * scans + data[end:]


def allowed_scans() -> bytes:
    """Returns a progressive JPEG with as many scans as the service accepts; decoding it exceeds the CPU time."""
    return many_scans(85)


def webp() -> bytes:
    return encoded(smooth(), "WEBP", quality=50, method=0)


def webp_header() -> bytes:
    """Returns 34 bytes that declare a lossless WebP picture of 49 megapixels."""
    bits = (SIDE - 1) | (SIDE - 1) << 14
    chunk = b"VP8L" + struct.pack("<I", 13) + b"\x2f" + struct.pack("<I", bits) + bytes(9)
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


def interlaced_png() -> bytes:
    """Returns an interlaced PNG of 16 bits per channel; all pixels are equal."""
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 16, 2, 0, 0, 1)
    passes = ((8, 8), (8, 8), (4, 8), (4, 4), (2, 4), (2, 2), (1, 2))
    sizes = [(-(-SIDE // rows), -(-SIDE // columns)) for columns, rows in passes]
    body = b"".join(bytes(1 + 6 * width) * height for height, width in sizes)
    return (
        b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(body, 9)) + _chunk(b"IEND", b"")
    )


def large_text_png() -> bytes:
    """Returns a small PNG with 200 compressed texts of 900 kB each."""
    data = encoded(smooth(64), "PNG")
    text = _chunk(b"zTXt", b"a\x00\x00" + zlib.compress(bytes(900_000), 9))
    return data[:33] + text * 200 + data[33:]


def animated_webp() -> bytes:
    frames = [smooth(2000).rotate(angle) for angle in range(8)]
    return encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], quality=30, method=0)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


PICTURES: Mapping[str, Callable[[], bytes]] = {
    "progressive JPEG, 1,500 scans": many_scans,
    "progressive JPEG, 95 scans": allowed_scans,
    "WebP, 49 megapixels": webp,
    "WebP, 34 bytes that declare 49 megapixels": webp_header,
    "interlaced PNG, 16 bits, 49 megapixels": interlaced_png,
    "PNG with 180 MB of compressed text": large_text_png,
    "animated WebP": animated_webp,
}
