"""Limits of a zip file's central directory, enforced on the bytes that the zip module reads."""

import io
import struct
from pathlib import Path

from service.errors import ArchiveUnreadable

MAX_DIRECTORY_BYTES = 48 * 1024**2
"""Maximum size of a zip file's central directory. In memory it takes about ten times as much."""
ENTRY = b"PK\x01\x02"
ENTRY_BYTES = 46
"""Size of the fixed part of an entry of the central directory (PKWARE APPNOTE, 4.3.12)."""
LENGTHS = struct.Struct("<HHH")
"""Lengths of name, extra field and comment, at offset 28 of an entry."""
TOO_LARGE = "the archive has too many entries for one job; split it into several archives"


class BoundedFile(io.FileIO):
    """A zip file whose central directory cannot exceed the limits.

    An archive may have contradictory end records: the classic one, and a ZIP64 record that replaces it. The limits
    therefore apply to the reads of the zip module, so that no second parser has to select the same record. The number
    of entries is counted before the module creates an object for each of them.

    Attributes:
        directory_is_read: set it to True after the archive was opened; the limits then no longer apply.
    """

    def __init__(self, file: Path, max_entries: int) -> None:
        super().__init__(file, "rb")
        self._max_entries = max_entries
        self.directory_is_read = False

    def read(self, size: int | None = -1) -> bytes:
        """Reads like a file. Raises ArchiveUnreadable while the directory is read if it exceeds a limit."""
        if self.directory_is_read:
            return super().read(-1 if size is None else size) or b""
        allowed = MAX_DIRECTORY_BYTES + 1
        data = self._read_fully(allowed if size is None or size < 0 else min(size, allowed))
        if len(data) > MAX_DIRECTORY_BYTES or (size is not None and size > MAX_DIRECTORY_BYTES):
            raise ArchiveUnreadable(TOO_LARGE)
        if data.startswith(ENTRY) and _has_more_entries(data, self._max_entries):
            raise ArchiveUnreadable(f"the archive has more than {self._max_entries:,} entries; split it")
        return data

    def _read_fully(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size and (chunk := super().read(size - len(data))):
            data += chunk
        return bytes(data)


def _has_more_entries(directory: bytes, maximum: int) -> bool:
    """Counts the entries of a central directory without parsing them. Damaged bytes end the count."""
    position = count = 0
    while directory.startswith(ENTRY, position) and position + ENTRY_BYTES <= len(directory):
        count += 1
        if count > maximum:
            return True
        position += ENTRY_BYTES + sum(LENGTHS.unpack_from(directory, position + 28))
    return False
