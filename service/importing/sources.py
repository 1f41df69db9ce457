"""Finds the ONNX files of a model: single files, and folders and zip archives such as InsightFace's packs."""

import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from service.errors import StartupError

SUFFIX = ".onnx"
MAX_BYTES = 1_000_000_000
"""Maximum size of all files together, which are in memory at the same time."""
MAX_FILES = 100


@dataclass(frozen=True)
class SourceFile:
    """An ONNX file. `named`: the user named this file, so it must be recognised."""

    name: str
    content: bytes
    named: bool


def read_sources(paths: Sequence[Path]) -> list[SourceFile]:
    """Returns the ONNX files.

    Raises:
        StartupError: a path is missing or of another format, there is no ONNX file, or there are too many or too large
            ones.
    """
    files: list[SourceFile] = []
    for file in (file for path in paths for file in _read(path)):
        files.append(file)
        if len(files) > MAX_FILES:
            raise StartupError(f"there are more than {MAX_FILES} {SUFFIX} files; name the two to import")
        if (size := sum(len(item.content) for item in files)) > MAX_BYTES:
            raise StartupError(
                f"the files up to {file.name} have {size:,} bytes; at most {MAX_BYTES:,}: name the two to import"
            )
    if not files:
        raise StartupError(f"there is no {SUFFIX} file in {', '.join(map(str, paths))}")
    return files


def _read(path: Path) -> Iterator[SourceFile]:
    if path.is_dir():
        for file in sorted(path.rglob(f"*{SUFFIX}")):
            _require_size(file, file.stat().st_size)
            yield SourceFile(file.name, file.read_bytes(), named=False)
    elif path.suffix == SUFFIX and path.is_file():
        _require_size(path, path.stat().st_size)
        yield SourceFile(path.name, path.read_bytes(), named=True)
    elif path.is_file() and zipfile.is_zipfile(path) and path.suffix == ".zip":
        yield from _unzip(path)
    elif not path.exists():
        raise StartupError(f"{path} does not exist")
    else:
        raise StartupError(f"{path} is no {SUFFIX} file, checkpoint (*.pt, *.pth), folder or zip archive")


def _unzip(path: Path) -> Iterator[SourceFile]:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if not member.is_dir() and member.filename.endswith(SUFFIX):
                _require_size(Path(member.filename), member.file_size)
                try:
                    with archive.open(member) as file:
                        content = file.read(MAX_BYTES + 1)
                except Exception as error:  # zipfile raises many types for damaged and encrypted entries
                    raise StartupError(f"{member.filename} of {path} cannot be read: {error}") from None
                _require_size(Path(member.filename), len(content))
                yield SourceFile(Path(member.filename).name, content, named=False)


def _require_size(path: Path, size: int) -> None:
    if size > MAX_BYTES:
        raise StartupError(f"{path} has {size:,} bytes; at most {MAX_BYTES:,}")
