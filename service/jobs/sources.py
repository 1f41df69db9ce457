"""The sources of a bulk enrolment: an uploaded archive or a folder on the server."""

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
from service.gallery.jobs.records import NewRow, RowStatus
from service.json_values import problem_of

PICTURE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".heic", ".heif"}
MANIFEST = "people.csv"
MANIFEST_COLUMNS = {"file", "external_id", "label", "metadata"}
MAX_MANIFEST_BYTES = 32 * 1024**2
MAX_TEXT_LENGTH = 256
MAX_PATH_LENGTH = 4096
MAX_PICTURES = 200_000
END_RECORD_BYTES = 22
"""Minimum size of the end of central directory record of a zip file."""
MAX_DIRECTORY_BYTES = 48 * 1024**2
"""Maximum size of a zip file's central directory. In memory it takes about ten times as much."""


class PictureSource(Protocol):
    """Files by name. Names are relative paths with forward slashes."""

    def names(self) -> list[str]: ...

    def read(self, name: str, max_bytes: int) -> bytes:
        """Raises ImageUnreadable, ImageTooLarge."""
        ...

    def close(self) -> None: ...


class Archive:
    """A zip file. Its entries are read in memory; nothing is extracted to disk.

    Raises:
        ArchiveUnreadable
    """

    def __init__(self, file: Path) -> None:
        try:
            _check_directory_size(file)
            self._zip = zipfile.ZipFile(file)
        except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as error:
            raise ArchiveUnreadable(f"the archive is not a readable zip file ({error}); create it again") from None
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        # Not `is_dir`, which raises IndexError for an entry without a name.
        return [item.filename for item in self._zip.infolist() if not item.filename.endswith("/")]

    def read(self, name: str, max_bytes: int) -> bytes:
        try:
            with self._lock, self._zip.open(name) as file:
                data = file.read(max_bytes + 1)  # the size in the archive's directory cannot be trusted
        except Exception as error:  # zipfile raises many types for damaged, encrypted or unsupported entries
            raise ImageUnreadable(f"the archive entry cannot be read: {error}") from None
        return _limited(data, max_bytes)

    def close(self) -> None:
        self._zip.close()


class Folder:
    """A folder on the server, below `jobs.import_root`.

    Raises:
        ArchiveUnreadable: the folder does not exist.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise ArchiveUnreadable("the folder of the job no longer exists", pointer="/folder")
        self._folder = folder.resolve()

    def names(self) -> list[str]:
        return [file.relative_to(self._folder).as_posix() for file in self._folder.rglob("*") if file.is_file()]

    def read(self, name: str, max_bytes: int) -> bytes:
        file = (self._folder / name).resolve()
        if not file.is_relative_to(self._folder):  # a symbolic link, or `../` in a manifest
            raise ImageUnreadable("the file is outside the folder of the job; copy it into the folder")
        try:
            with file.open("rb") as opened:
                return _limited(opened.read(max_bytes + 1), max_bytes)
        except (OSError, ValueError) as error:
            raise ImageUnreadable(f"the file cannot be read: {getattr(error, 'strerror', error)}") from None

    def close(self) -> None:
        pass


def _check_directory_size(file: Path) -> None:
    """Reads the size of the central directory from the end of a zip file (PKWARE APPNOTE, 4.3.14 to 4.3.16).

    Raises:
        ArchiveUnreadable: the directory would take too much memory, or the end record is missing.
        OSError, ValueError, struct.error: the file is not a zip file.
    """
    with file.open("rb") as opened:
        opened.seek(max(0, file.stat().st_size - 65_557))
        tail = opened.read()
        end = tail.rfind(b"PK\x05\x06")
        if not 0 <= end <= len(tail) - END_RECORD_BYTES:
            raise ArchiveUnreadable(
                "the file is not a zip file, or its end is missing; check that the upload was complete"
            )
        (size,) = struct.unpack_from("<L", tail, end + 12)
        if size == 0xFFFFFFFF:
            (offset,) = struct.unpack_from("<Q", tail, end - 12)
            opened.seek(offset + 40)
            (size,) = struct.unpack("<Q", opened.read(8))
    if size > MAX_DIRECTORY_BYTES:
        raise ArchiveUnreadable("the archive has too many entries for one job; split it into several archives")


def allowed_folder(root: Path | None, requested: str) -> Path:
    """Returns the absolute path of a requested folder below `root`, the setting `jobs.import_root`.

    Raises:
        InvalidRequest: the folder does not exist or is not below the root, or there is no root.
    """
    if root is None:
        raise InvalidRequest(
            "jobs.import_root is not set, so folders of the server cannot be enrolled; upload an archive, or set "
            "jobs.import_root",
            pointer="/folder",
        )
    try:
        folder = (root / requested).resolve()
        if folder.is_relative_to(root.resolve()) and folder.is_dir():
            return folder
    except (OSError, ValueError):
        pass
    raise InvalidRequest(f"the folder {requested!r} does not exist below jobs.import_root", pointer="/folder")


def list_rows(source: PictureSource) -> list[NewRow]:
    """Returns one row per picture, sorted by `external_id`.

    If the source has a `people.csv` at its top, the manifest assigns files to people. Otherwise the name of a
    picture's folder is the `external_id`; for a picture at the top, its name without the suffix is.

    Raises:
        ArchiveUnreadable: there is no picture, there are too many, or the manifest is invalid.
    """
    names = source.names()
    rows = _rows_by_manifest(source, names) if MANIFEST in names else _rows_by_folder(names)
    limited = list(itertools.islice(rows, MAX_PICTURES + 1))
    if not limited:
        raise ArchiveUnreadable(
            f"the source contains no picture; store pictures as <person>/<picture>.jpg, or list them in {MANIFEST}"
        )
    if len(limited) > MAX_PICTURES:
        raise ArchiveUnreadable(f"one job enrols at most {MAX_PICTURES:,} pictures; split them into several jobs")
    return sorted((_checked(row) for row in limited), key=lambda row: row.external_id)


def _rows_by_folder(names: Sequence[str]) -> Iterator[NewRow]:
    for name in names:
        path = PurePosixPath(name)
        hidden = any(part.startswith((".", "__MACOSX")) for part in path.parts)
        if path.suffix.lower() in PICTURE_SUFFIXES and not hidden:
            yield NewRow(name, path.parent.name or path.stem)


def _rows_by_manifest(source: PictureSource, names: Sequence[str]) -> Iterator[NewRow]:
    known = set(names)
    try:
        text = source.read(MANIFEST, MAX_MANIFEST_BYTES).decode("utf-8-sig")
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        columns = set(reader.fieldnames or ())
        if not {"file", "external_id"} <= columns or not columns <= MANIFEST_COLUMNS:
            raise ArchiveUnreadable(
                f"{MANIFEST} has the columns {', '.join(sorted(map(str, columns))) or '(none)'}; `file` and "
                "`external_id` are required, `label` and `metadata` (JSON) are optional"
            )
        for line in reader:
            row = _manifest_row(line)
            missing = row.status is None and row.source not in known
            yield _rejected(row, f"the file that {MANIFEST} names does not exist in the source") if missing else row
    except (UnicodeDecodeError, csv.Error, ImageUnreadable, ImageTooLarge) as error:
        raise ArchiveUnreadable(f"{MANIFEST} cannot be read: {error}") from None


def _manifest_row(line: dict[str, Any]) -> NewRow:
    row = NewRow(line["file"] or "", line["external_id"] or "", line.get("label") or None)
    if None in line:
        return _rejected(row, f"the line in {MANIFEST} has more fields than the header has columns")
    if not (text := line.get("metadata")):
        return row
    try:
        metadata = json.loads(text)
    except (ValueError, RecursionError):
        metadata = None
    if not isinstance(metadata, dict):
        return _rejected(row, "`metadata` is not a JSON object")
    if (problem := problem_of(metadata)) is not None:
        return _rejected(row, f"`metadata` {problem}")
    return NewRow(row.source, row.external_id, row.label, metadata)


def _checked(row: NewRow) -> NewRow:
    """Returns the row, or a rejected one if PostgreSQL cannot store its strings."""
    for name, text in (("file", row.source), ("external_id", row.external_id), ("label", row.label or "-")):
        max_length = MAX_PATH_LENGTH if name == "file" else MAX_TEXT_LENGTH
        if not text or len(text) > max_length or _storable(text) != text:
            return _rejected(row, f"`{name}` must have 1 to {max_length} characters, without NUL and lone surrogates")
    return row


def _rejected(row: NewRow, detail: str) -> NewRow:
    return NewRow(
        _storable(row.source)[:MAX_PATH_LENGTH],
        _storable(row.external_id)[:MAX_TEXT_LENGTH],
        None,
        None,
        row.status or RowStatus.REJECTED,
        row.code or InvalidRequest.code,
        row.detail or detail,
    )


def _storable(text: str) -> str:
    return text.encode("utf-8", "replace").decode().replace("\x00", "?")


def _limited(data: bytes, max_bytes: int) -> bytes:
    if len(data) > max_bytes:
        raise ImageTooLarge(f"the file has more than {max_bytes:,} bytes")
    return data
