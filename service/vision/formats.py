"""The formats of pictures, and descriptions of files that are none of them."""

import re
import string
from pathlib import PurePath

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "HEIF", "AVIF", "GIF", "TIFF", "JPEG2000")
"""Pillow's names. MPO files are JPEG files; of several pictures in a file the first is read."""
NAMES = "JPEG, PNG, WebP, HEIC, AVIF, GIF, TIFF, JPEG 2000 and BMP"
_ENDINGS = "jpg jpeg mpo png webp gif bmp heic heif avif tif tiff jp2 j2k"
SUFFIXES = frozenset(f".{ending}" for ending in _ENDINGS.split())
"""Of files whose names say that they are pictures. Only the content decides about the format."""
TEXT_BYTES = 2048
MAX_PATH = 1024
URL = re.compile(r"^(https?|ftp|s3|file)://\S+$", re.IGNORECASE)
SIGNATURES = (
    (0, b"FUJIFILMCCD-RAW", "RAF (Fujifilm RAW)"),
    (0, b"IIRO", "ORF (Olympus RAW)"),
    (0, b"IIRS", "ORF (Olympus RAW)"),
    (0, b"IIU\x00", "RW2 (Panasonic RAW)"),
    (4, b"ftypcrx ", "CR3 (Canon RAW)"),
    (8, b"CR\x02\x00", "CR2 (Canon RAW)"),
    (0, b"%PDF", "PDF"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"8BPS", "PSD (Photoshop)"),
    (0, b"Rar!", "a RAR archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"7z\xbc\xaf", "a 7z archive"),
    (4, b"ftypqt", "a QuickTime video"),
    (4, b"ftypisom", "an MP4 video"),
    (4, b"ftypmp4", "an MP4 video"),
    (0, b"\x1aE\xdf\xa3", "a Matroska or WebM video"),
    (0, b"\x00\x00\x00\x0cJXL ", "JPEG XL"),
    (0, b"\xff\x0a", "JPEG XL"),
)
DNG_VERSION, PHOTOMETRIC, COLOUR_FILTERS = 50706, 262, (32803, 34892)
"""TIFF tags: the version of DNG, and the interpretation of pixels behind a colour filter array."""


def raw_by_signature(data: bytes) -> str | None:
    """Returns the name of a RAW format that begins like a picture; None: it is none."""
    name = _by_signature(data)
    return name if name is not None and "RAW" in name else None


def describe_raw_tiff(tags: dict[int, object], maker: str) -> str | None:
    """Returns the name of a RAW format that is a TIFF file, by the tags of its first directory; None: it is none."""
    if DNG_VERSION in tags:
        return "DNG (RAW)"
    if tags.get(PHOTOMETRIC) in COLOUR_FILTERS:
        return f"RAW of {maker}" if maker else "RAW"
    return None


def describe_unknown(data: bytes) -> str:
    """Returns what a file is that no decoder recognises, as the rest of a sentence about the file."""
    if not data:
        return "is empty"
    if (name := _by_signature(data)) is not None:
        return f"is {name}"
    text = _text(data)
    if text is None:
        return "has an unknown format"
    if URL.match(text):
        return "contains a URL; send the picture itself, or use an operation that reads URLs"
    if len(text) <= MAX_PATH and PurePath(text).suffix.lower() in SUFFIXES:
        return "contains a path; send the picture itself (curl: -F images=@file, with @)"
    if text.lstrip().lower().startswith(("<svg", "<?xml")):
        return "is XML or SVG"
    if text.lstrip().lower().startswith(("<!doctype", "<html")):
        return "is a web page"
    return "is text"


def _by_signature(data: bytes) -> str | None:
    return next((name for start, mark, name in SIGNATURES if data[start : start + len(mark)] == mark), None)


def _text(data: bytes) -> str | None:
    """Returns the beginning of a text file; None: it is binary."""
    try:
        text = data[:TEXT_BYTES].decode(errors="strict" if len(data) <= TEXT_BYTES else "ignore")
    except UnicodeDecodeError:
        return None
    return (
        text.strip() if all(character.isprintable() or character in string.whitespace for character in text) else None
    )
