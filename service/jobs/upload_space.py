"""Space for uploaded archives: a quota for all archives of a folder, and a reserve of free disk space."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from service.errors import StorageFull

STEP_BYTES = 4 * 1024**2
"""Bytes by which a partial file grows before they arrive. Fewer steps need fewer scans of the folder."""
SUFFIX, PARTIAL = ".zip", ".part"
LOCK = "lock"


@dataclass(frozen=True)
class UploadSpace:
    """Reserves space for archives in a folder that several processes may share.

    A partial file has the size of its reservation, which the disk has allocated. A file lock makes the check of the
    quota and the growth of the file one step, so that concurrent uploads together do not exceed the quota.

    Attributes:
        max_total_bytes: maximum size of all archives of the folder, partial ones included.
        min_free_bytes: bytes of the disk that uploads must leave free.
    """

    folder: Path
    max_total_bytes: int
    min_free_bytes: int

    def require(self, size: int) -> None:
        """Raises StorageFull if an archive of this size does not fit at present."""
        if (problem := self._problem(size, *self._available())) is not None:
            raise StorageFull(problem)

    def extend(self, descriptor: int, reserved: int, needed: int) -> int:
        """Grows a partial file from `reserved` to at least `needed` bytes. Returns its new size.

        Raises:
            StorageFull: the quota or the free disk space does not suffice.
        """
        with self._lock():
            quota, disk = self._available()
            if (problem := self._problem(needed - reserved, quota, disk)) is not None:
                raise StorageFull(problem)
            grown = min(max(STEP_BYTES, needed - reserved), quota, disk)
            os.posix_fallocate(descriptor, reserved, grown)
        return reserved + grown

    def _problem(self, size: int, quota: int, disk: int) -> str | None:
        if size > quota:
            return (
                f"the archives of unfinished jobs may take {self.max_total_bytes:,} bytes together, and the upload "
                "exceeds the rest; wait until jobs end, or raise jobs.max_upload_bytes_total"
            )
        if size > disk:
            return (
                f"the disk of the upload folder must keep {self.min_free_bytes:,} bytes free; free space, send a "
                "smaller archive, or lower jobs.min_free_disk_bytes"
            )
        return None

    def _available(self) -> tuple[int, int]:
        """Returns the bytes that the quota and the free space of the disk permit."""
        used = 0
        for file in self.folder.iterdir():
            if file.suffix in {SUFFIX, PARTIAL}:
                with contextlib.suppress(FileNotFoundError):
                    used += file.stat().st_size
        disk = os.statvfs(self.folder)
        return self.max_total_bytes - used, disk.f_bavail * disk.f_frsize - self.min_free_bytes

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        descriptor = os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)  # also releases the lock
