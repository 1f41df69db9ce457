"""The cache of computed artefacts: files that are named by the content they are computed from.

An artefact is complete or absent: it is written under a temporary name and renamed when it is complete, so an
interrupted command leaves nothing that a later command would read.
"""

import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
KEY_LENGTH = 16
CHUNK_BYTES = 1 << 20


def content_key(*parts: str | bytes | Path) -> str:
    """Returns 16 hexadecimal digits of a SHA-256 over the parts; a `Path` is hashed by the content of its file."""
    digest = hashlib.sha256()
    for part in parts:
        content = hashlib.sha256()
        if isinstance(part, Path):
            with part.open("rb") as file:
                while chunk := file.read(CHUNK_BYTES):
                    content.update(chunk)
        else:
            content.update(part.encode() if isinstance(part, str) else part)
        digest.update(content.digest())
    return digest.hexdigest()[:KEY_LENGTH]


def folder_key(folder: Path) -> str:
    """Returns the content key of the files below a folder, with their relative paths.

    Files `*.cache` are left out: Ultralytics writes them beside the labels that it reads.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".cache")
    return content_key(*(part for path in files for part in (path.relative_to(folder).as_posix(), path)))


@contextmanager
def atomic_file(file: Path) -> Iterator[Path]:
    """Yields a temporary path beside `file`; renames it to `file` unless the block raises."""
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f".{file.name}.partial")
    try:
        yield unfinished
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Yields an empty temporary folder beside `folder`; renames it to `folder` unless the block raises."""
    unfinished = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
        unfinished.replace(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def cached_array(file: Path, compute: Callable[[], Array]) -> Array:
    """Returns the array that `file` (`.npy`) holds; computes and stores it first if the file does not exist."""
    if not file.exists():
        with atomic_file(file) as unfinished, unfinished.open("wb") as opened:
            np.save(opened, compute())
    return np.load(file)


def cached_arrays(file: Path, compute: Callable[[], Mapping[str, Array]]) -> dict[str, Array]:
    """Returns the named arrays that `file` (`.npz`) holds; computes and stores them first if it does not exist."""
    if not file.exists():
        with atomic_file(file) as unfinished, unfinished.open("wb") as opened:
            np.savez(opened, **compute())  # type: ignore[arg-type]
    with np.load(file) as stored:
        return dict(stored)
