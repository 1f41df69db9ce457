"""Decoding of picture files: formats, orientation, limits and damaged files."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from service.errors import ImageTooLarge, ImageTooSmall, ImageTruncated, ImageUnreadable, RegistryError
from service.vision.image import ImageLimits, decode, decode_into, new_memory
from tests.photos import encoded

LIMITS = ImageLimits(max_bytes=5_000_000, max_pixels=4_000_000)
GRADIENT = np.linspace(0, 255, 64 * 48 * 3).reshape(48, 64, 3).astype(np.uint8)
NOISE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
HALF_A_JPEG, HALF_A_PNG = (data[: len(data) // 2] for data in (encoded(NOISE, "JPEG"), encoded(NOISE, "PNG")))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "WEBP", "JPEG", "HEIF"])
def test_every_format_is_decoded_to_rgb(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {"quality": 95} if kind in {"JPEG", "HEIF"} else {}
    decoded = decode(encoded(GRADIENT, kind, **options), LIMITS)
    assert decoded.shape == (48, 64, 3)
    assert decoded.dtype == np.uint8
    assert np.abs(decoded.astype(int) - GRADIENT).mean() < 12


def test_sixteen_bit_pictures_are_converted_to_eight_bits() -> None:
    grey = np.linspace(0, 65535, 32 * 32).reshape(32, 32).astype(np.uint16)
    decoded = decode(encoded(Image.fromarray(grey), "PNG"), LIMITS)
    assert decoded.shape == (32, 32, 3)
    assert decoded.max() == 255
    assert abs(int(decoded[16, 0, 0]) - 128) <= 2


@pytest.mark.parametrize("mode", ["CMYK", "L", "P", "1", "RGBA", "LA"])
def test_other_colour_modes_are_converted_to_rgb(mode: str) -> None:
    picture = Image.fromarray(GRADIENT).convert(mode)
    assert decode(encoded(picture, "JPEG" if mode == "CMYK" else "PNG"), LIMITS).shape == (48, 64, 3)


@pytest.mark.parametrize(
    ("orientation", "transpose"),
    [(3, Image.Transpose.ROTATE_180), (6, Image.Transpose.ROTATE_90), (8, Image.Transpose.ROTATE_270)],
)
def test_exif_orientation_is_applied(orientation: int, transpose: Image.Transpose) -> None:
    upright = Image.fromarray(GRADIENT)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(upright.transpose(transpose), "PNG", exif=exif)
    np.testing.assert_array_equal(decode(data, LIMITS), GRADIENT)


def test_damaged_exif_is_ignored() -> None:
    data = bytearray(encoded(GRADIENT, "JPEG", exif=b"Exif\x00\x00II*\x00\x08\x00\x00\x00\xff\xff" + b"\xff" * 40))
    assert decode(bytes(data), LIMITS).shape == (48, 64, 3)


def _png_header(width: int, height: int) -> bytes:
    chunks = [b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0), b"IDAT" + zlib.compress(b"\x00" * 99)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks
    )


def test_declared_pixels_are_refused_before_decoding() -> None:
    with pytest.raises(ImageTooLarge, match="20000 x 20000"):
        decode(_png_header(20_000, 20_000), ImageLimits())


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", ImageUnreadable),
        (b"hello, world" * 20, ImageUnreadable),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", ImageUnreadable),
        (b"\xff\xd8\xff" + b"\x00" * 50, ImageUnreadable),
        (b"PK\x03\x04" + bytes(100), ImageUnreadable),
        (HALF_A_JPEG, ImageTruncated),
        (HALF_A_PNG, ImageTruncated),
        (encoded(np.zeros((1, 1, 3), np.uint8), "PNG"), ImageTooSmall),
        (b"\x00" * 5_000_001, ImageTooLarge),
        (encoded(np.zeros((2001, 2000, 3), np.uint8), "PNG"), ImageTooLarge),
    ],
)  # fmt: skip
def test_invalid_file_raises_the_specific_error(data: bytes, error: type[RegistryError]) -> None:
    with pytest.raises(error):
        decode(data, LIMITS)


@given(st.integers(0, 2**32), st.sampled_from(["JPEG", "PNG", "WEBP", "GIF", "TIFF", "AVIF", "JPEG2000"]))
def test_changed_bytes_raise_registry_errors_only(seed: int, kind: str) -> None:
    data = bytearray(encoded(GRADIENT, kind))
    rng = np.random.default_rng(seed)
    for position in rng.integers(0, len(data), 3):
        data[position] ^= int(rng.integers(1, 256))
    try:
        decoded = decode(bytes(data), LIMITS)
    except RegistryError:
        return
    assert decoded.ndim == 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_jpeg_files_equals_that_of_pillow(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(GRADIENT, "JPEG", exif=exif, quality=95)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    decoded = decode(data, LIMITS)
    assert decoded.shape == expected.shape
    assert np.abs(decoded.astype(int) - expected).max() <= 2
    reduced = decode_into(data, LIMITS, new_memory, 32)
    assert reduced.pixels.shape[:2] == (expected.shape[0] // 2, expected.shape[1] // 2)
    assert (reduced.width, reduced.height) == (expected.shape[1], expected.shape[0])
    halved = np.asarray(Image.fromarray(expected).reduce(2))
    assert np.abs(reduced.pixels.astype(int) - halved).mean() < 6


@given(width=st.integers(16, 400), height=st.integers(16, 400), wanted=st.integers(8, 500))
def test_reduced_pictures_keep_the_wanted_side_and_their_proportions(width: int, height: int, wanted: int) -> None:
    data = encoded(np.zeros((height, width, 3), np.uint8), "JPEG")
    picture = decode_into(data, LIMITS, new_memory, wanted)
    rows, columns = picture.pixels.shape[:2]
    assert (picture.width, picture.height) == (width, height)
    assert max(rows, columns) >= min(wanted, max(width, height))
    factor = next(factor for factor in (8, 4, 2, 1) if factor == 1 or max(width, height) >= factor * wanted)
    assert (rows, columns) == (-(-height // factor), -(-width // factor))
    assert picture.is_reduced == (factor > 1)


def test_a_truncated_jpeg_is_refused_at_every_size() -> None:
    with pytest.raises(ImageTruncated):
        decode_into(HALF_A_JPEG, LIMITS, new_memory, 16)
