"""Zip files as the source of a bulk enrolment."""

import io
import threading
import zipfile
from pathlib import Path
from typing import IO

from service.errors import ArchiveUnreadable, ImageTooLarge, ImageUnreadable
from service.jobs.sources.pictures import CHUNK_BYTES, too_large
from service.jobs.sources.zip_directory import BoundedFile

METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
"""Compression methods that decompress with bounded memory. bzip2 and LZMA allocate up to 4 GB for a few bytes."""
UTF8 = 0x800
ENCRYPTED = 0x1
"""Bits of the general purpose flags of an entry (PKWARE APPNOTE, 4.4.4)."""
DEFLATE_OVERHEAD = 64 * 1024
"""Bytes by which the deflated form of a file may exceed the file."""


class Archive:
    """A zip file. Its entries are read in memory; nothing is extracted to disk.

    Args:
        max_entries: maximum number of entries, directories included.
        encoding: encoding of the names that have no flag for UTF-8; None: UTF-8 where they are valid, otherwise code
            page 437.

    Raises:
        ArchiveUnreadable
    """

    def __init__(self, file: Path, max_entries: int, encoding: str | None = None) -> None:
        try:
            self._file = BoundedFile(file, max_entries)
        except OSError as error:
            raise _unreadable(error) from None
        try:
            self._zip = zipfile.ZipFile(self._file)
        except BaseException as error:  # zipfile raises many types for damaged archives
            self._file.close()
            if isinstance(error, ArchiveUnreadable) or not isinstance(error, Exception):
                raise
            raise _unreadable(error) from None
        self._file.directory_is_read = True
        self._lock = threading.Lock()
        self._encoding = encoding
        self._entries = {_name(item, encoding): item for item in self._zip.infolist()}

    def names(self) -> list[str]:
        # Not `is_dir`, which raises IndexError for an entry without a name.
        names = (_name(item, self._encoding) for item in self._zip.infolist())
        return [name for name in names if not name.endswith("/")]

    def problem(self, name: str) -> str | None:
        entry = self._entries[name]
        if entry.compress_type not in METHODS:
            return (
                f"the archive entry has the compression method {entry.compress_type}; only stored (0) and deflated (8) "
                "entries are opened: create the archive with the standard method"
            )
        if entry.flag_bits & ENCRYPTED:
            return "the archive entry is encrypted; create the archive without a password"
        return None

    def read(self, name: str, max_bytes: int) -> bytes:
        try:
            if (problem := self.problem(name)) is not None:
                raise ImageUnreadable(problem)
            entry = self._entries[name]
            if entry.file_size > max_bytes or entry.compress_size > max_bytes + DEFLATE_OVERHEAD:
                raise too_large(max_bytes)
            with self._lock, self._zip.open(entry) as file:
                return _read(file, max_bytes)
        except (ImageUnreadable, ImageTooLarge):
            raise
        except Exception as error:  # zipfile raises many types for damaged entries
            raise ImageUnreadable(f"the archive entry cannot be read: {error}") from None

    def close(self) -> None:
        self._zip.close()
        self._file.close()


def _name(entry: zipfile.ZipInfo, encoding: str | None) -> str:
    """Returns the name of an entry.

    Without the flag for UTF-8 the format means code page 437, but macOS and many programs write UTF-8 without it, and
    others the code page of their system. A name of code page 437 that is valid UTF-8 by chance is improbable.
    """
    if entry.flag_bits & UTF8 or entry.filename.isascii():
        return entry.filename
    try:
        return entry.filename.encode("cp437").decode(encoding or "utf-8")
    except UnicodeError:
        return entry.filename


def _read(file: IO[bytes], max_bytes: int) -> bytes:
    """Reads an entry in chunks, because the size in the archive's directory cannot be trusted."""
    data = io.BytesIO()
    while chunk := file.read(min(CHUNK_BYTES, max_bytes + 1 - data.tell())):
        data.write(chunk)
        if data.tell() > max_bytes:
            raise too_large(max_bytes)
    return data.getvalue()


def _unreadable(error: Exception) -> ArchiveUnreadable:
    return ArchiveUnreadable(
        f"the archive is not a readable zip file ({error}); check that the upload was complete, or create the "
        "archive again"
    )
