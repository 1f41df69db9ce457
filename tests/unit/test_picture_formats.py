"""Tests of picture formats, colours and descriptions of files that are no pictures."""

import io
import struct

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from service.errors import ImageUnreadable
from service.vision.image import ImageLimits, decode
from tests.photos import encoded

LIMITS = ImageLimits(max_bytes=5_000_000, max_pixels=4_000_000)
GRADIENT = np.linspace(0, 255, 64 * 48 * 3).reshape(48, 64, 3).astype(np.uint8)
RED, BLUE = (200, 30, 40), (30, 40, 200)


def plain(colour: tuple[int, ...], mode: str = "RGB") -> Image.Image:
    return Image.new(mode, (64, 48), colour)


def centre(data: bytes) -> tuple[int, ...]:
    return tuple(int(value) for value in decode(data, LIMITS)[24, 32])


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "AVIF", "JPEG2000", "PNG", "WEBP", "HEIF", "BMP", "MPO"])
def test_more_formats_are_read(kind: str) -> None:
    decoded = decode(encoded(GRADIENT, kind), LIMITS)
    assert np.abs(decoded.astype(int) - GRADIENT).mean() < 15


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "MPO"])
def test_the_first_picture_of_several_is_read(kind: str) -> None:
    data = encoded(plain(RED), kind, save_all=True, append_images=[plain(BLUE)])
    assert centre(data) == pytest.approx(RED, abs=6)


def test_pixels_behind_transparency_are_white() -> None:
    """The colours of transparent pixels are arbitrary; the background of the page is not."""
    for mode, colour in (("RGBA", (255, 0, 0, 0)), ("LA", (0, 0)), ("PA", None)):
        picture = plain(colour, mode) if colour else plain((9, 9, 9, 0), "RGBA").convert("PA")
        assert centre(encoded(picture, "PNG" if mode != "PA" else "TIFF")) == (255, 255, 255)
    assert centre(encoded(plain((200, 0, 0, 128), "RGBA"), "PNG")) == pytest.approx((227, 127, 127), abs=2)
    palette = plain(RED).convert("P", palette=Image.Palette.ADAPTIVE)
    assert centre(encoded(palette, "GIF", transparency=palette.getpixel((0, 0)))) == (255, 255, 255)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_keep_the_whole_range(kind: str) -> None:
    grey = np.linspace(0, 65535, 48 * 64).reshape(48, 64).astype(np.uint16)
    decoded = decode(encoded(Image.fromarray(grey), kind), LIMITS)
    assert (int(decoded.min()), int(decoded.max())) == (0, 255)
    assert int(decoded[24, 0, 0]) == pytest.approx(128, abs=2)


@pytest.mark.parametrize("white", [1.0, 255.0, 65535.0])
def test_floating_point_pixels_are_scaled_by_their_range(white: float) -> None:
    values = np.linspace(0, white, 48 * 64).reshape(48, 64).astype(np.float32)
    values[0, 0] = np.nan
    decoded = decode(encoded(Image.fromarray(values), "TIFF"), LIMITS)
    assert int(decoded[24, 0, 0]) == pytest.approx(128, abs=2)


def test_lab_and_one_bit_pictures_keep_their_colours() -> None:
    assert centre(encoded(plain((136, 208, 195), "LAB"), "TIFF")) == pytest.approx((254, 0, 0), abs=30)
    assert centre(encoded(plain((1,), "1"), "PNG")) == (255, 255, 255)


def test_cmyk_is_read_with_and_without_the_marker_of_adobe() -> None:
    """Adobe stores inverted values and marks them; other programs store plain ones without a marker."""
    adobe = encoded(plain((0, 200, 200, 0), "CMYK"), "JPEG", quality=95)
    start = adobe.index(b"\xff\xeeAdobe"[:2], 2) if b"Adobe" in adobe else -1
    assert centre(adobe) == pytest.approx((255, 55, 55), abs=12)
    if start >= 0:
        length = struct.unpack(">H", adobe[start + 2 : start + 4])[0]
        inverted = encoded(plain((255, 55, 55, 255), "CMYK"), "JPEG", quality=95)
        start = inverted.index(b"\xff\xee")
        without = inverted[:start] + inverted[start + 2 + length :]
        assert centre(without) == pytest.approx((255, 55, 55), abs=12)


def profile(primaries: np.ndarray, gamma: float, name: bytes = b"wide") -> bytes:
    """A matrix profile of ICC version 2: the columns of (3, 3) primaries are red, green and blue in XYZ (D50)."""

    def fixed(value: float) -> bytes:
        return struct.pack(">i", round(value * 65536))

    white = b"XYZ \0\0\0\0" + fixed(0.9642) + fixed(1.0) + fixed(0.8249)
    tags = {b"wtpt": white}
    for mark, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries.T, strict=True):
        tags[mark] = b"XYZ \0\0\0\0" + b"".join(fixed(value) for value in column)
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    text = b"desc\0\0\0\0" + struct.pack(">I", len(name) + 1) + name + b"\0" + bytes(79)
    tags |= {b"desc": text + bytes(-len(text) % 4), b"cprt": b"text\0\0\0\0none\0\0\0\0"}
    offset = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for mark, content in tags.items():
        table += mark + struct.pack(">II", offset + len(body), len(content))
        body += content
    size = struct.pack(">I", offset + len(body))
    head = size + b"lcms\x02\x10\0\0mntrRGB XYZ " + bytes(12) + b"acsp" + bytes(28)
    head += b"".join(fixed(value) for value in (0.9642, 1.0, 0.8249)) + bytes(48)
    return head + table + body


P3 = np.array([[0.5151, 0.2919, 0.1571], [0.2412, 0.6922, 0.0666], [-0.0011, 0.0419, 0.7841]])
SRGB = np.array([[0.4361, 0.3851, 0.1431], [0.2225, 0.7169, 0.0606], [0.0139, 0.0971, 0.7141]])


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_colour_profiles_are_converted_to_srgb(kind: str) -> None:
    """Linear light in the profile's primaries, converted by the two matrices, with sRGB's transfer curve."""
    colour = (180, 90, 90)
    linear = np.linalg.solve(SRGB, P3 @ (np.array(colour) / 255) ** 2.2).clip(0, 1)
    expected = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055) * 255
    options = {"quality": 98} if kind in ("JPEG", "WEBP") else {}
    data = encoded(plain(colour), kind, icc_profile=profile(P3, 2.2), **options)
    assert centre(data) == pytest.approx(tuple(expected), abs=6)
    assert centre(data) != pytest.approx(colour, abs=3)
    if kind == "PNG":
        opaque = encoded(plain((*colour, 255), "RGBA"), kind, icc_profile=profile(P3, 2.2))
        assert centre(opaque) == centre(data)


def test_unusable_profiles_are_ignored() -> None:
    for unusable in (b"no profile", profile(P3, 2.2)[:200], bytes(200)):
        assert centre(encoded(plain(RED), "PNG", icc_profile=unusable)) == RED


def test_the_orientation_in_xmp_is_applied() -> None:
    upright = Image.fromarray(GRADIENT)
    turned = upright.transpose(Image.Transpose.ROTATE_90)
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    data = encoded(turned, "JPEG", xmp=xmp, quality=98)
    assert np.abs(decode(data, LIMITS).astype(int) - GRADIENT).mean() < 12


def raw(tags: dict[int, object]) -> bytes:
    directory = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, value in tags.items():
        directory[tag] = value
    return encoded(plain(RED), "TIFF", tiffinfo=directory)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the file is empty"),
        (b"hello, this is text", "is text"),
        (b"https://example.org/ada.jpg", "contains a URL"),
        (b"C:\\photos\\ada.JPG\n", "contains a path; send the picture itself"),
        (b"ada.jpg", "contains a path"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "is XML or SVG"),
        (b"<!doctype html><html></html>", "is a web page"),
        (b"%PDF-1.7" + bytes(100), "is PDF"),
        (b"PK\x03\x04" + bytes(100), "is a ZIP archive"),
        (bytes(4) + b"ftypisom" + bytes(100), "is an MP4 video"),
        (b"\xff\x0a" + bytes(100), "is JPEG XL"),
        (b"FUJIFILMCCD-RAW " + bytes(100), "is RAF"),
        (b"II*\0\x10\0\0\0CR\x02\0" + bytes(100), "is CR2"),
        (bytes(4) + b"ftypcrx " + bytes(100), "is CR3"),
        (raw({50706: b"\x01\x04\x00\x00"}), r"is DNG \(RAW\)"),
        (b"\x00\x01\x02\x03" * 50, "has an unknown format"),
    ],
)
def test_other_files_are_named(data: bytes, message: str) -> None:
    with pytest.raises(ImageUnreadable, match=message):
        decode(data, LIMITS)


def test_the_suffix_of_a_file_does_not_matter_and_the_message_lists_the_formats() -> None:
    with pytest.raises(ImageUnreadable, match="JPEG, PNG, WebP, HEIC, AVIF, GIF, TIFF, JPEG 2000 and BMP"):
        decode(io.BytesIO(b"%PDF").getvalue(), LIMITS)
