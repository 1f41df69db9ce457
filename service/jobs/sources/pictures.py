"""Files of a bulk enrolment by name, and the rules for their names."""

from pathlib import PurePosixPath
from typing import Protocol

from service.errors import ImageTooLarge
from service.vision.formats import SUFFIXES

ARCHIVE_SUFFIXES = {".zip", ".7z", ".rar", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst"}
HIDDEN_PREFIXES = (".", "__MACOSX")
CHUNK_BYTES = 256 * 1024


class PictureSource(Protocol):
    """Files by name. Names are relative paths with forward slashes."""

    def names(self) -> list[str]:
        """Raises ArchiveUnreadable: there are too many files."""
        ...

    def problem(self, name: str) -> str | None:
        """Returns the reason why `read` refuses a file, as far as it is known without opening the file, or None."""
        ...

    def read(self, name: str, max_bytes: int) -> bytes:
        """Raises ImageUnreadable, ImageTooLarge."""
        ...

    def close(self) -> None: ...


def name_problem(name: str) -> str | None:
    """Returns the reason why a bulk enrolment skips a file with this name, or None."""
    path = PurePosixPath(name)
    if any(part.startswith(HIDDEN_PREFIXES) for part in path.parts):
        return "hidden files and the folder __MACOSX are skipped; rename the file if it is a picture"
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        return None
    if suffix in ARCHIVE_SUFFIXES:
        return "archives inside the source are not opened; send the archive in a job of its own"
    return f"the name has no suffix of a supported picture ({', '.join(sorted(SUFFIXES))}); convert the file"


def too_large(max_bytes: int) -> ImageTooLarge:
    return ImageTooLarge(f"the file has more than {max_bytes:,} bytes")
