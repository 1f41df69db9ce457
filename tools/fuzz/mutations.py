"""Mutates files: single bytes, numbers in headers, whole segments, and two files spliced together."""

import random
import struct
import zlib
from collections.abc import Callable, Sequence

from tools.fuzz.segments import chunk, split, with_checksums

NUMBERS = (0, 1, 2, 3, 7, 15, 16, 17, 127, 128, 255, 256, 4095, 7071, 32767, 32768, 65535, 2**31 - 1, 2**31, 2**32 - 1)
MAX_BYTES = 1024**2
"""Repeated segments can multiply the size of a file."""
HEADER_BYTES = 64
"""The first bytes of a segment contain its sizes, types and offsets."""
Mutation = Callable[[random.Random, bytes, bytes], bytes]
"""Returns a file made of a file and another file of the same format."""


def mutate(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """Returns the file after one to four random mutations; `other` supplies segments and the end of spliced files."""
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4))):
        data = (rng.choice(MUTATIONS)(rng, data, other) or data[:1])[:MAX_BYTES]
    return with_checksums(data) if rng.random() < 0.8 else data


def _flip_bits(rng: random.Random, data: bytes, other: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 2, 4, 16, 64))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _replace_block(rng: random.Random, data: bytes, other: bytes) -> bytes:
    start, length = rng.randrange(len(data)), rng.choice((1, 2, 4, 16, 256))
    block = rng.choice((rng.randbytes(length), b"\x00" * length, b"\xff" * length))
    return data[:start] + block + data[start + length :]


def _insert_block(rng: random.Random, data: bytes, other: bytes) -> bytes:
    start, source = rng.randrange(len(data)), rng.randrange(len(data))
    return data[:start] + data[source : source + rng.choice((1, 4, 64, 1024))] * rng.choice((1, 1, 8)) + data[start:]


def _delete_block(rng: random.Random, data: bytes, other: bytes) -> bytes:
    start = rng.randrange(len(data))
    return data[:start] + data[start + rng.choice((1, 2, 4, 64, 1024)) :]


def _truncate(rng: random.Random, data: bytes, other: bytes) -> bytes:
    return data[: rng.randrange(len(data))]


def _set_number(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """Replaces 1, 2 or 4 bytes near the start of a segment by a number at the limit of a range."""
    parts = split(data)
    index = rng.randrange(len(parts))
    start = sum(map(len, parts[:index])) + rng.randrange(min(HEADER_BYTES, len(parts[index])))
    size, code = rng.choice(((1, "B"), (2, "H"), (4, "L")))
    number = rng.choice(NUMBERS) % 2 ** (8 * size)
    return data[:start] + struct.pack(rng.choice("<>") + code, number) + data[start + size :]


def _drop_segment(rng: random.Random, data: bytes, other: bytes) -> bytes:
    parts = split(data)
    del parts[rng.randrange(len(parts))]
    return b"".join(parts)


def _repeat_segment(rng: random.Random, data: bytes, other: bytes) -> bytes:
    parts = split(data)
    index = rng.randrange(len(parts))
    parts[index:index] = [parts[index]] * rng.choice((1, 2, 50))
    return b"".join(parts)


def _move_segment(rng: random.Random, data: bytes, other: bytes) -> bytes:
    parts = split(data)
    part = parts.pop(rng.randrange(len(parts)))
    parts.insert(rng.randint(0, len(parts)), part)
    return b"".join(parts)


def _foreign_segment(rng: random.Random, data: bytes, other: bytes) -> bytes:
    parts = split(data)
    index = rng.randrange(len(parts))
    parts[index : index + rng.randrange(2)] = [rng.choice(split(other))]
    return b"".join(parts)


def _splice(rng: random.Random, data: bytes, other: bytes) -> bytes:
    return data[: rng.randrange(len(data))] + other[rng.randrange(len(other)) :]


def _recompress(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """Mutates the decompressed pixels of a PNG file, which random changes of compressed data do not reach."""
    parts = split(data)
    for index, part in enumerate(parts):
        if part[4:8] == b"IDAT":
            try:
                rows = zlib.decompress(part[8:-4])
            except zlib.error:
                break
            change = rng.choice((_flip_bits, _insert_block, _delete_block, _truncate))
            parts[index] = chunk(b"IDAT", zlib.compress(change(rng, rows or b"\x00", other), 1))
            return b"".join(parts)
    return _flip_bits(rng, data, other)


MUTATIONS: Sequence[Mutation] = (
    _flip_bits,
    _flip_bits,
    _replace_block,
    _insert_block,
    _delete_block,
    _truncate,
    _set_number,
    _set_number,
    _set_number,
    _drop_segment,
    _repeat_segment,
    _move_segment,
    _foreign_segment,
    _splice,
    _recompress,
)
