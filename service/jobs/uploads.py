"""Archives that clients sent, kept as long as their job runs."""

import asyncio
import contextlib
import errno
import os
import secrets
import time
import uuid
from collections.abc import AsyncIterator, Collection
from functools import cached_property
from pathlib import Path
from tempfile import NamedTemporaryFile

from service.errors import StorageFull

SUFFIX, PARTIAL = ".zip", ".part"
NAME = "name"
NAME_BYTES = 8
"""A queue is listened to on a channel whose name may have 63 bytes, Procrastinate's 24 among them."""


class Uploads:
    """A folder of archives, closed to other accounts. Where several processes share it, any of them works on them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @cached_property
    def name(self) -> str:
        """The folder's own name, the same for all who share it: their part of the queue.

        Raises:
            StorageFull: the folder can't be written.
        """
        file = self._folder / NAME
        try:
            self._open_folder()
            with contextlib.suppress(FileExistsError), NamedTemporaryFile("w", dir=self._folder) as own:
                own.write(secrets.token_hex(NAME_BYTES))
                own.flush()
                os.link(own.name, file)  # the whole name or none, and the first one's
            return file.read_text()
        except OSError as error:
            raise StorageFull("the service's folder for archives can't be written") from error

    def path(self, job_id: uuid.UUID) -> Path:
        return self._folder / f"{job_id}{SUFFIX}"

    async def receive(self, job_id: uuid.UUID, chunks: AsyncIterator[bytes]) -> Path:
        """Write an archive down as it comes; a broken one leaves nothing behind.

        Raises:
            StorageFull: the disk has no room, or the folder can't be written.
        """
        file = self.path(job_id)
        partial = file.with_suffix(PARTIAL)
        try:
            self._open_folder()
            with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as output:
                async for chunk in chunks:
                    await asyncio.to_thread(output.write, chunk)
                output.flush()
                await asyncio.to_thread(os.fsync, output.fileno())
            partial.rename(file)
        except OSError as error:
            full = error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
            raise StorageFull(
                "the archive does not fit on the service's disk" if full else "the archive can't be kept by the service"
            ) from error
        finally:
            partial.unlink(missing_ok=True)
        return file

    def _open_folder(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def drop(self, job_id: uuid.UUID) -> None:
        """Delete a job's archive, if it has one."""
        with contextlib.suppress(FileNotFoundError):
            self.path(job_id).unlink()

    def sweep(self, needed: Collection[uuid.UUID], older_than_s: float) -> int:
        """Delete what no unfinished job needs, such as the rest of a killed process; how many files."""
        if not self._folder.is_dir():
            return 0
        dropped = 0
        for file in self._folder.iterdir():
            if file.suffix not in {SUFFIX, PARTIAL} or file.stem in {str(job_id) for job_id in needed}:
                continue
            with contextlib.suppress(FileNotFoundError):
                if file.stat().st_mtime < time.time() - older_than_s:
                    file.unlink()
                    dropped += 1
        return dropped
