"""Uploaded archives on disk. An archive is kept until its job has finished."""

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
"""The name is part of a PostgreSQL channel name. It has at most 63 bytes, of which Procrastinate's prefix takes 24."""


class Uploads:
    """A folder of archives that only this account can read.

    Several processes may share the folder, for example as a mounted volume. Each of them can execute the jobs of all.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @cached_property
    def name(self) -> str:
        """The random name of the folder, stored in it. Identifies the processes that share the folder.

        Raises:
            StorageFull: the folder is not writable.
        """
        file = self._folder / NAME
        try:
            self._create_folder()
            with contextlib.suppress(FileExistsError), NamedTemporaryFile("w", dir=self._folder) as temporary:
                temporary.write(secrets.token_hex(NAME_BYTES))
                temporary.flush()
                # A hard link appears atomically and fails if another process was first.
                os.link(temporary.name, file)
            return file.read_text()
        except OSError as error:
            raise StorageFull("the upload folder is not writable; make it writable or change jobs.uploads") from error

    def path(self, job_id: uuid.UUID) -> Path:
        return self._folder / f"{job_id}{SUFFIX}"

    async def receive(self, job_id: uuid.UUID, chunks: AsyncIterator[bytes]) -> Path:
        """Writes an archive to disk. An incomplete upload leaves no file.

        Raises:
            StorageFull: the disk is full or the folder is not writable.
        """
        file = self.path(job_id)
        partial = file.with_suffix(PARTIAL)
        try:
            self._create_folder()
            with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as output:
                async for chunk in chunks:
                    await asyncio.to_thread(output.write, chunk)
                output.flush()
                await asyncio.to_thread(os.fsync, output.fileno())
            partial.rename(file)
        except OSError as error:
            full = error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
            raise StorageFull(
                "the disk of the service has no space for the archive; free space, or send a smaller archive"
                if full
                else "the service cannot write to its upload folder; make it writable or change jobs.uploads"
            ) from error
        finally:
            partial.unlink(missing_ok=True)
        return file

    def _create_folder(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def drop(self, job_id: uuid.UUID) -> None:
        """Deletes the archive of a job if there is one."""
        with contextlib.suppress(FileNotFoundError):
            self.path(job_id).unlink()

    def sweep(self, needed: Collection[uuid.UUID], older_than_s: float) -> int:
        """Deletes old files that no unfinished job needs, such as those of a killed process. Returns their number.

        Args:
            needed: ids of unfinished jobs.
            older_than_s: files that were modified within this time are kept, since their job may not exist yet.
        """
        if not self._folder.is_dir():
            return 0
        deleted = 0
        for file in self._folder.iterdir():
            if file.suffix not in {SUFFIX, PARTIAL} or file.stem in {str(job_id) for job_id in needed}:
                continue
            with contextlib.suppress(FileNotFoundError):
                if file.stat().st_mtime < time.time() - older_than_s:
                    file.unlink()
                    deleted += 1
        return deleted
