"""Uploaded archives on disk. An archive is kept until its job has finished."""

import asyncio
import contextlib
import errno
import os
import secrets
import time
import uuid
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import BinaryIO

from service.errors import RequestTimeout, StorageFull
from service.jobs.sources.archive import Archive
from service.jobs.sources.embeddings import EmbeddingArchive
from service.jobs.upload_space import PARTIAL, SUFFIX, UploadSpace

NAME = "name"
NAME_BYTES = 8
"""The name is part of a PostgreSQL channel name. It has at most 63 bytes, of which Procrastinate's prefix takes 24."""


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """Limits of uploaded archives.

    Attributes:
        max_total_bytes: maximum size of all archives in the folder together.
        min_free_bytes: bytes of the disk that uploads must leave free.
        timeout_s: seconds in which an archive must arrive.
        max_entries: maximum number of entries of an archive.
    """

    max_total_bytes: int
    min_free_bytes: int
    timeout_s: float
    max_entries: int


class Uploads:
    """A folder of archives that only this account can read.

    Several processes may share the folder, for example as a mounted volume. Each of them can execute the jobs of all.
    """

    def __init__(self, folder: Path, limits: UploadLimits) -> None:
        self._folder = folder
        self._limits = limits
        self._space = UploadSpace(folder, limits.max_total_bytes, limits.min_free_bytes)

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

    def open(self, job_id: uuid.UUID, encoding: str | None = None) -> Archive:
        """Opens the archive of a job, with file names in this encoding. Raises ArchiveUnreadable."""
        return Archive(self.path(job_id), self._limits.max_entries, encoding)

    def open_embeddings(self, job_id: uuid.UUID) -> EmbeddingArchive:
        """Opens the NumPy archive of a job. Raises ArchiveUnreadable."""
        return EmbeddingArchive(self.path(job_id), self._limits.max_entries)

    async def receive(self, job_id: uuid.UUID, chunks: AsyncIterator[bytes], size: int | None = None) -> None:
        """Writes an archive to disk. An incomplete upload leaves no file.

        Args:
            size: size in bytes that the client has declared; None: unknown.

        Raises:
            StorageFull: the quota is exhausted, the disk has no space, or the folder is not writable.
            RequestTimeout: the archive did not arrive in time.
        """
        file = self.path(job_id)
        partial = file.with_suffix(PARTIAL)
        try:
            self._create_folder()
            await asyncio.to_thread(self._space.require, size or 0)
            with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as output:
                written = await self._write(output, chunks)
                output.truncate(written)
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

    async def _write(self, output: BinaryIO, chunks: AsyncIterator[bytes]) -> int:
        """Writes the archive to its partial file. Returns the size of the archive."""
        deadline = asyncio.get_running_loop().time() + self._limits.timeout_s
        written = reserved = 0
        while (chunk := await self._next(chunks, deadline)) is not None:
            if written + len(chunk) > reserved:
                reserved = await asyncio.to_thread(self._space.extend, output.fileno(), reserved, written + len(chunk))
            await asyncio.to_thread(output.write, chunk)
            written += len(chunk)
        return written

    async def _next(self, chunks: AsyncIterator[bytes], deadline: float) -> bytes | None:
        """Returns the next part of an archive, or None at its end. Raises RequestTimeout."""
        try:
            async with asyncio.timeout_at(deadline):
                return await anext(chunks, None)
        except TimeoutError:
            raise RequestTimeout(
                f"the archive did not arrive within {self._limits.timeout_s:g} s; send it faster, split it, or raise "
                "jobs.upload_timeout_s"
            ) from None

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
