"""Where the pictures of a bulk enrolment are: an uploaded archive, or a folder of the server's."""

import csv
import io
import itertools
import json
import struct
import threading
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from service.errors import ArchiveUnreadable, ImageTooLarge, ImageUnreadable, InvalidRequest
from service.gallery.jobs.jobs import NewRow, RowStatus

PICTURES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".heic", ".heif"}
MANIFEST = "people.csv"
MANIFEST_COLUMNS = {"file", "external_id", "label", "metadata"}
LARGEST_MANIFEST = 32 * 1024**2
LONGEST_NAME = 256
MOST_PICTURES = 200_000
END_OF_LIST = 22
"""Bytes, at least, of the record with which a zip ends."""
LARGEST_DIRECTORY = 48 * 1024**2
"""Bytes of a zip's list of entries, which takes some ten times as much memory once it is read."""


class PictureSource(Protocol):
    """Files by name, with slashes in it."""

    def names(self) -> list[str]: ...

    def read(self, name: str, at_most: int) -> bytes:
        """Raises ImageUnreadable, ImageTooLarge."""
        ...

    def close(self) -> None: ...


class Archive:
    """A zip file. Nothing of it is unpacked onto the disk.

    Raises:
        ArchiveUnreadable
    """

    def __init__(self, file: Path) -> None:
        try:
            _require_bearable(file)
            self._zip = zipfile.ZipFile(file)
        except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as error:
            raise ArchiveUnreadable(f"the archive is not a zip file that can be read: {error}") from None
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        return [item.filename for item in self._zip.infolist() if not item.is_dir()]

    def read(self, name: str, at_most: int) -> bytes:
        try:
            with self._lock, self._zip.open(name) as file:
                data = file.read(at_most + 1)  # whatever the archive says of its size
        except Exception as error:  # whatever the unpacker raises for broken, encrypted or unknown entries
            raise ImageUnreadable(f"the archive's entry can't be read: {error}") from None
        return _within(data, at_most)

    def close(self) -> None:
        self._zip.close()


class Folder:
    """A folder below the one that the settings allow.

    Raises:
        ArchiveUnreadable: it is no folder.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise ArchiveUnreadable("there is no such folder any more", pointer="/folder")
        self._folder = folder.resolve()

    def names(self) -> list[str]:
        return [file.relative_to(self._folder).as_posix() for file in self._folder.rglob("*") if file.is_file()]

    def read(self, name: str, at_most: int) -> bytes:
        file = (self._folder / name).resolve()
        if not file.is_relative_to(self._folder):  # a link, or a manifest's `../`
            raise ImageUnreadable("the file lies outside the folder")
        try:
            with file.open("rb") as opened:
                return _within(opened.read(at_most + 1), at_most)
        except (OSError, ValueError) as error:
            raise ImageUnreadable(f"the file can't be read: {getattr(error, 'strerror', error)}") from None

    def close(self) -> None:
        pass


def _require_bearable(file: Path) -> None:
    """Look at the end of a zip (PKWARE's APPNOTE, 4.3.14 to 4.3.16) for how long its list of entries is.

    Raises:
        ArchiveUnreadable: reading it would take too much memory.
        OSError, ValueError, struct.error: it is no zip.
    """
    with file.open("rb") as opened:
        opened.seek(max(0, file.stat().st_size - 65_557))
        tail = opened.read()
        end = tail.rfind(b"PK\x05\x06")
        if not 0 <= end <= len(tail) - END_OF_LIST:
            raise ArchiveUnreadable("this is no zip file, or its end is missing: was it sent whole?")
        (size,) = struct.unpack_from("<L", tail, end + 12)
        if size == 0xFFFFFFFF:
            (offset,) = struct.unpack_from("<Q", tail, end - 12)
            opened.seek(offset + 40)
            (size,) = struct.unpack("<Q", opened.read(8))
    if size > LARGEST_DIRECTORY:
        raise ArchiveUnreadable("the archive has far too many entries for one job; make several")


def allowed_folder(root: Path | None, wanted: str) -> Path:
    """The folder that a request means.

    Raises:
        InvalidRequest: it lies elsewhere than below the root, or there is no root.
    """
    if root is None:
        raise InvalidRequest(
            "folders of the server are not open to requests: upload an archive, or set jobs.import_root",
            pointer="/folder",
        )
    try:
        folder = (root / wanted).resolve()
        if folder.is_relative_to(root.resolve()) and folder.is_dir():
            return folder
    except (OSError, ValueError):
        pass
    raise InvalidRequest(f"there is no folder {wanted!r} below jobs.import_root", pointer="/folder")


def rows_of(source: PictureSource) -> list[NewRow]:
    """What is to be enrolled, the pictures of one person in a row.

    With a `people.csv` at the top it says which file shows whom; else the folder that a picture lies in is the
    person's `external_id`, and of a picture in no folder its own name is.

    Raises:
        ArchiveUnreadable: there is no picture, or far too many, or the manifest is not as it must be.
    """
    names = source.names()
    found = _by_manifest(source, names) if MANIFEST in names else _by_folder(names)
    rows = list(itertools.islice(found, MOST_PICTURES + 1))
    if not rows:
        raise ArchiveUnreadable(
            f"there is no picture in it: put them as <person>/<picture>.jpg, or name them in {MANIFEST}"
        )
    if len(rows) > MOST_PICTURES:
        raise ArchiveUnreadable(f"there are more than the {MOST_PICTURES:,} pictures of one job; make several")
    return sorted((_checked(row) for row in rows), key=lambda row: row.external_id)


def _by_folder(names: Sequence[str]) -> Iterator[NewRow]:
    for name in names:
        path = PurePosixPath(name)
        hidden = any(part.startswith((".", "__MACOSX")) for part in path.parts)
        if path.suffix.lower() in PICTURES and not hidden:
            yield NewRow(name, path.parent.name or path.stem)


def _by_manifest(source: PictureSource, names: Sequence[str]) -> Iterator[NewRow]:
    known = set(names)
    try:
        text = source.read(MANIFEST, LARGEST_MANIFEST).decode("utf-8-sig")
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        columns = set(reader.fieldnames or ())
        if not {"file", "external_id"} <= columns or not columns <= MANIFEST_COLUMNS:
            raise ArchiveUnreadable(
                f"{MANIFEST} has the columns {', '.join(sorted(map(str, columns))) or 'none'}; it needs `file` and "
                "`external_id`, and may have `label` and `metadata` (JSON)"
            )
        for line in reader:
            row = _manifest_row(line)
            missing = row.status is None and row.source not in known
            yield _refused(row, f"{MANIFEST} names a file that is not there") if missing else row
    except (UnicodeDecodeError, csv.Error, ImageUnreadable, ImageTooLarge) as error:
        raise ArchiveUnreadable(f"{MANIFEST} can't be read: {error}") from None


def _manifest_row(line: dict[str, Any]) -> NewRow:
    row = NewRow(line["file"] or "", line["external_id"] or "", line.get("label") or None)
    if None in line:
        return _refused(row, f"{MANIFEST} has more fields in this line than columns")
    if not (words := line.get("metadata")):
        return row
    try:
        metadata = json.loads(words)
    except ValueError:
        metadata = None
    if not isinstance(metadata, dict) or "\\u0000" in words:
        return _refused(row, "`metadata` is not a JSON object")
    return NewRow(row.source, row.external_id, row.label, metadata)


def _checked(row: NewRow) -> NewRow:
    """The row as it can be stored."""
    for name, words in (("file", row.source), ("external_id", row.external_id), ("label", row.label or "-")):
        longest = 4096 if name == "file" else LONGEST_NAME
        if not words or len(words) > longest or _storable(words) != words:
            return _refused(row, f"`{name}` must have 1 to {longest} characters, without NUL and lone surrogates")
    return row


def _refused(row: NewRow, detail: str) -> NewRow:
    return NewRow(
        _storable(row.source)[:4096],
        _storable(row.external_id)[:LONGEST_NAME],
        None,
        None,
        row.status or RowStatus.REJECTED,
        row.code or InvalidRequest.code,
        row.detail or detail,
    )


def _storable(words: str) -> str:
    return words.encode("utf-8", "replace").decode().replace("\x00", "?")


def _within(data: bytes, at_most: int) -> bytes:
    if len(data) > at_most:
        raise ImageTooLarge(f"the file has more than {at_most:,} bytes")
    return data
