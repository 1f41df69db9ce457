"""NumPy archives (.npz) as the source of a bulk enrolment: one embedding and one external id for each person."""

import os
import struct
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from service.errors import ArchiveUnreadable
from service.jobs.sources.zip_directory import BoundedFile

Floats = npt.NDArray[np.float32]
LOCAL_HEADER_BYTES = 30
"""Size of the fixed part of an entry's header (PKWARE APPNOTE, 4.3.7), which ends with two lengths of two bytes."""
MAX_HEADER_BYTES = 10_000
MAX_ITEM_BYTES = 64 * 1024
"""Maximum size of a text. NumPy stores every text of an array with the size of the longest."""
MAX_PART_ROWS, MAX_PART_BYTES = 5_000, 16 * 1024**2
"""Maximum number and size of the rows whose texts are in memory at the same time."""
MAX_ENTRIES = 16
TEXTS = ("external_id", "label", "metadata")
TEXT_KINDS = "Uiu"
"""Kinds of NumPy types that are read as texts: Unicode, and whole numbers."""
HOW_TO = "create the archive with numpy.savez(file, embeddings=…, external_id=…)"


@dataclass(frozen=True, slots=True)
class _Column:
    """An array in the file: its type, its shape and the position of its first byte."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int

    @property
    def row_bytes(self) -> int:
        return self.dtype.itemsize * int(np.prod(self.shape[1:], dtype=np.int64))


class EmbeddingArchive:
    """A NumPy archive with the arrays `embeddings` (n, dim) and `external_id` (n,), and optionally `label` and
    `metadata` (n,), which holds JSON. Rows are read as they are needed.

    Args:
        max_rows: maximum number of rows.

    Raises:
        ArchiveUnreadable
    """

    def __init__(self, file: Path, max_rows: int) -> None:
        self._columns = _read_columns(file)
        self.rows, self.dim = _checked_shape(self._columns, max_rows)
        size = file.stat().st_size
        for name, column in self._columns.items():
            if column.offset + self.rows * column.row_bytes > size:
                raise ArchiveUnreadable(f"the array {name!r} is incomplete; check that the upload was complete")
        self._file = os.open(file, os.O_RDONLY)

    @property
    def part_rows(self) -> int:
        """The number of rows whose texts may be read at once."""
        size = sum(column.row_bytes for name, column in self._columns.items() if name in TEXTS)
        return max(1, min(MAX_PART_ROWS, MAX_PART_BYTES // max(size, 1)))

    def embeddings(self, first: int, last: int) -> Floats:
        """Returns (last - first, dim) embeddings as the archive contains them."""
        return self._read("embeddings", first, last).astype(np.float32)

    def texts(self, name: str, first: int, last: int) -> list[str | None]:
        """Returns the values of a text array. An absent array and an empty text are None."""
        if name not in self._columns:
            return [None] * (last - first)
        values = self._read(name, first, last)
        if values.dtype.kind == "U" and values.dtype.itemsize:
            characters = values.view(np.dtype(np.uint32).newbyteorder(values.dtype.byteorder))
            if characters.max(initial=0) > sys.maxunicode:  # NumPy fails with a SystemError
                raise ArchiveUnreadable(f"the array {name!r} contains an invalid text: a number that is no character")
        return [str(value) or None for value in values]

    def close(self) -> None:
        os.close(self._file)

    def _read(self, name: str, first: int, last: int) -> npt.NDArray[Any]:
        column = self._columns[name]
        size = (last - first) * column.row_bytes
        data = os.pread(self._file, size, column.offset + first * column.row_bytes)
        return np.frombuffer(data, column.dtype).reshape(last - first, *column.shape[1:])


def _read_columns(file: Path) -> dict[str, _Column]:
    """Returns the arrays of the archive by name."""
    try:
        with BoundedFile(file, MAX_ENTRIES) as bounded, zipfile.ZipFile(bounded) as archive:
            bounded.directory_is_read = True
            return {
                entry.filename.removesuffix(".npy"): _column(bounded, entry)
                for entry in archive.infolist()
                if entry.filename.endswith(".npy")
            }
    except ArchiveUnreadable:
        raise
    except Exception as error:  # zipfile and NumPy raise many types for damaged files
        raise ArchiveUnreadable(f"the archive is not a readable .npz file ({error}); {HOW_TO}") from None


def _column(file: BoundedFile, entry: zipfile.ZipInfo) -> _Column:
    if entry.compress_type != zipfile.ZIP_STORED:
        raise ArchiveUnreadable("the archive is compressed; create it with numpy.savez, not savez_compressed")
    file.seek(entry.header_offset)
    name_bytes, extra_bytes = struct.unpack("<26x2H", file.read(LOCAL_HEADER_BYTES))
    file.seek(name_bytes + extra_bytes, os.SEEK_CUR)
    version = npy.read_magic(file)
    read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, is_fortran, dtype = read_header(file, max_header_size=MAX_HEADER_BYTES)
    if is_fortran and len(shape) > 1:
        raise ArchiveUnreadable("an array has Fortran order; save numpy.ascontiguousarray(…) of it")
    return _Column(dtype, shape, file.tell())


def _checked_shape(columns: dict[str, _Column], max_rows: int) -> tuple[int, int]:
    """Returns the number of rows and of dimensions. Raises ArchiveUnreadable."""
    missing = {"embeddings", "external_id"} - columns.keys()
    if missing:
        raise ArchiveUnreadable(f"the archive has no array {min(missing)!r}; {HOW_TO}")
    if unknown := columns.keys() - {"embeddings", *TEXTS}:
        raise ArchiveUnreadable(
            f"the archive has an unknown array {min(unknown)!r}; its arrays may be "
            "embeddings, external_id, label and metadata"
        )
    embeddings = columns["embeddings"]
    if len(embeddings.shape) != 2 or embeddings.dtype.kind != "f" or not 0 < embeddings.shape[1] <= MAX_ITEM_BYTES // 8:
        raise ArchiveUnreadable("`embeddings` must be an array of floating-point numbers, one row for each person")
    rows = embeddings.shape[0]
    for name in TEXTS:
        column = columns.get(name, _Column(np.dtype("U1"), (rows,), 0))
        if column.dtype.kind not in TEXT_KINDS or column.shape != (rows,) or column.dtype.itemsize > MAX_ITEM_BYTES:
            raise ArchiveUnreadable(f"`{name}` must be an array of {rows:,} texts, one for each embedding")
    if not 0 < rows <= max_rows:
        raise ArchiveUnreadable(
            f"the archive has {rows:,} rows; one job has 1 to {max_rows:,} (jobs.max_archive_entries): split it"
        )
    return rows, embeddings.shape[1]
