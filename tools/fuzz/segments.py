"""Splits picture files and archives into their segments, so that mutations can move whole segments."""

import itertools
import re
import struct
import zlib

PNG = b"\x89PNG\r\n\x1a\n"
JPEG_MARKER = re.compile(rb"\xff[\xc0-\xcf\xda-\xfe]")
ZIP_RECORD = re.compile(rb"PK(?=\x01\x02|\x03\x04|\x05\x06|\x06\x06|\x06\x07|\x07\x08)")


def split(data: bytes) -> list[bytes]:
    """Returns the segments of a file, which joined are the file. A file of an unknown format is one segment."""
    if data.startswith(b"\xff\xd8"):
        return _cut(data, [match.start() for match in JPEG_MARKER.finditer(data)])
    if data.startswith(PNG):
        return _cut(data, _chunk_offsets(data, 8, ">", 0, 12))
    if data.startswith(b"RIFF"):
        return _cut(data, _chunk_offsets(data, 12, "<", 4, 8))
    if data.startswith(b"BM"):
        return _cut(data, [14, 54, 54 + (len(data) - 54) // 2])
    if data[4:8] == b"ftyp":
        return _cut(data, _box_offsets(data))
    if data.startswith(b"PK"):
        return _cut(data, [match.start() for match in ZIP_RECORD.finditer(data)])
    return [data]


def with_checksums(data: bytes) -> bytes:
    """Returns a PNG file with correct checksums of its chunks, because a decoder ignores chunks with a wrong one."""
    if not data.startswith(PNG):
        return data
    parts, position = [PNG], 8
    while position + 12 <= len(data):
        (length,) = struct.unpack_from(">L", data, position)
        end = min(position + 8 + length, len(data) - 4)
        body = data[position + 4 : end]
        parts.append(data[position : position + 4] + body + struct.pack(">L", zlib.crc32(body)))
        position = end + 4
    return b"".join(parts) + data[position:]


def chunk(kind: bytes, body: bytes) -> bytes:
    """Returns a chunk of a PNG file."""
    return struct.pack(">L", len(body)) + kind + body + struct.pack(">L", zlib.crc32(kind + body))


def _cut(data: bytes, offsets: list[int]) -> list[bytes]:
    bounds = sorted({0, len(data), *(offset for offset in offsets if offset < len(data))})
    return [data[start:end] for start, end in itertools.pairwise(bounds)]


def _chunk_offsets(data: bytes, position: int, order: str, place: int, header: int) -> list[int]:
    """Returns the offsets of the chunks of a PNG or RIFF file.

    Args:
        order: byte order of the lengths, ">" or "<"; RIFF pads its chunks to an even length.
        place: position of the length in a chunk.
        header: number of bytes of a chunk beside its body.
    """
    offsets = []
    while position + 8 <= len(data):
        offsets.append(position)
        (length,) = struct.unpack_from(f"{order}L", data, position + place)
        position += length + header + (length % 2 if order == "<" else 0)
    return offsets


def _box_offsets(data: bytes) -> list[int]:
    """Returns the offsets of the boxes of a HEIC file (ISO/IEC 14496-12), and of those in its box `meta`."""
    offsets, position = [], 0
    while position + 8 <= len(data):
        offsets.append(position)
        size, kind = struct.unpack_from(">L4s", data, position)
        position += 12 if kind == b"meta" else max(size, 8)
    return offsets
