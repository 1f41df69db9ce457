"""Folders of the server as the source of a bulk enrolment."""

import itertools
from pathlib import Path

from service.errors import ArchiveUnreadable, ImageUnreadable, InvalidRequest
from service.jobs.sources.pictures import too_large


class Folder:
    """A folder on the server, below `jobs.import_root`.

    Args:
        max_files: maximum number of files in the folder and the folders in it.

    Raises:
        ArchiveUnreadable: the folder does not exist.
    """

    def __init__(self, folder: Path, max_files: int) -> None:
        if not folder.is_dir():
            raise ArchiveUnreadable("the folder of the job no longer exists", pointer="/folder")
        self._folder = folder.resolve()
        self._max_files = max_files

    def names(self) -> list[str]:
        files = (file for file in self._folder.rglob("*") if file.is_file())
        names = [file.relative_to(self._folder).as_posix() for file in itertools.islice(files, self._max_files + 1)]
        if len(names) > self._max_files:
            raise ArchiveUnreadable(
                f"the folder has more than {self._max_files:,} files; split it, or raise jobs.max_archive_entries",
                pointer="/folder",
            )
        return names

    def problem(self, name: str) -> str | None:
        return None

    def read(self, name: str, max_bytes: int) -> bytes:
        file = (self._folder / name).resolve()
        if not file.is_relative_to(self._folder):  # a symbolic link, or `../` in a manifest
            raise ImageUnreadable("the file is outside the folder of the job; copy it into the folder")
        try:
            with file.open("rb") as opened:
                data = opened.read(max_bytes + 1)
        except (OSError, ValueError) as error:
            raise ImageUnreadable(f"the file cannot be read: {getattr(error, 'strerror', error)}") from None
        if len(data) > max_bytes:
            raise too_large(max_bytes)
        return data

    def close(self) -> None:
        pass


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
