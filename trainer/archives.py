"""Data sets arrive as folders or as zip archives of folders; both are read the same way."""

import hashlib
import shutil
import zipfile
from collections.abc import Iterable
from pathlib import Path

from rich.progress import track

from trainer.configuration import ConfigError


def unpack(sources: Iterable[Path], into: Path) -> Path:
    """Bring folders and zip archives together in one folder and return it.

    A single folder is used where it is. Archives are unpacked once, below `into` in a folder of their own, so that what
    an earlier command brought there never mixes with them.

    Raises:
        ConfigError: a source does not exist or is a file that is not a zip archive, or an archive names a path outside
            itself.
    """
    sources = [Path(source) for source in sources]
    for source in sources:
        if not source.exists():
            raise ConfigError(f"{source} does not exist")
    if len(sources) == 1 and sources[0].is_dir():
        return sources[0]
    into = into / _described(sources)
    into.mkdir(parents=True, exist_ok=True)
    for source in sources:
        if source.is_dir():
            shutil.copytree(source, into, dirs_exist_ok=True)
        else:
            _unzip_once(source, into)
    return into


def _described(sources: Iterable[Path]) -> str:
    told = (f"{source.resolve()} {source.stat().st_size} {source.stat().st_mtime_ns}" for source in sorted(sources))
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:12]


def _unzip_once(archive: Path, into: Path) -> None:
    marker = into / f".{archive.name}.{archive.stat().st_size}.unpacked"
    if marker.exists():
        return
    if not zipfile.is_zipfile(archive):
        raise ConfigError(f"{archive} is neither a folder nor a zip archive")
    root = into.resolve()
    with zipfile.ZipFile(archive) as content:
        for member in track(content.infolist(), description=f"unpacking {archive.name}"):
            if not (root / member.filename).resolve().is_relative_to(root):
                raise ConfigError(f"{archive} holds a path outside itself: {member.filename}")
            content.extract(member, root)
    marker.touch()
