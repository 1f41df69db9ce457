"""Data sets are folders, or zip archives of folders."""

import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path

from trainer.cache import atomic_folder, content_key
from trainer.configuration import ConfigError
from trainer.progress import track


def unpack(sources: Sequence[Path], work: Path) -> Path:
    """Returns one folder with the content of all sources.

    A single folder is returned as it is. Archives are extracted once, into a folder below `work` that is named by the
    path, size and modification time of every source. Further folders are copied into it at every call, since their
    content may have changed.

    Raises:
        ConfigError: A source does not exist or is a file but not a zip archive, or an archive contains a path that
            leads out of it.
    """
    for source in sources:
        if not source.exists():
            raise ConfigError(f"{source} does not exist")
    if len(sources) == 1 and sources[0].is_dir():
        return sources[0]
    folder = work / _key(sources)
    if not folder.exists():
        with atomic_folder(folder) as unfinished:
            for archive in (source for source in sources if not source.is_dir()):
                _extract(archive, unfinished)
    for source in sources:
        if source.is_dir():
            shutil.copytree(source, folder, dirs_exist_ok=True)
    return folder


def _key(sources: Sequence[Path]) -> str:
    """Returns a key without reading the archives, which may be many gigabytes."""
    return content_key(
        *(f"{source.resolve()} {source.stat().st_size} {source.stat().st_mtime_ns}" for source in sorted(sources))
    )


def source_key(source: Path) -> str:
    """Returns a key of one file without reading it, for the folder of its content."""
    return _key([source])


def _extract(archive: Path, folder: Path) -> None:
    if not zipfile.is_zipfile(archive):
        raise ConfigError(f"{archive} is neither a folder nor a zip archive")
    root = folder.resolve()
    with zipfile.ZipFile(archive) as content:
        for member in track(content.infolist(), description=f"extracting {archive.name}"):
            if not (root / member.filename).resolve().is_relative_to(root):
                raise ConfigError(f"{archive} contains a path that leads out of the archive: {member.filename}")
            content.extract(member, root)
