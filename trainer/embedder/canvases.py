"""Aligned face canvases as one memory-mapped array, decoded once.

A canvas is a square picture of 160 pixels whose middle 112 x 112 is the aligned crop; the margin leaves room for
rotation, shift and scale without black corners.
"""

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from rich.progress import track

from service.vision.image import ImageLimits, decode
from trainer.configuration import ConfigError
from trainer.pictures import pictures_below

CANVAS = 160
CROP = 112
MIDDLE = slice((CANVAS - CROP) // 2, (CANVAS + CROP) // 2)
NAMELESS = ""


@dataclass(frozen=True)
class CanvasSet:
    """`pictures`: (N, 160, 160, 3) uint8 RGB; `identities`: N names, "" where the person has none; `files`: theirs;
    `array`: where the pictures are kept.
    """

    pictures: npt.NDArray[np.uint8]
    identities: list[str]
    files: list[Path] = field(default_factory=list)
    array: Path = Path()

    def __len__(self) -> int:
        return len(self.identities)

    @property
    def key(self) -> str:
        """Changes with the pictures and their names: what is kept of them goes by it."""
        return hashlib.sha256(f"{self.array.stem} {self.identities}".encode()).hexdigest()


def middle_crops(pictures: npt.NDArray[np.uint8], size: int = CROP) -> list[npt.NDArray[np.uint8]]:
    """The aligned crops in the middle of (N, 160, 160, 3) canvases, scaled to `size`."""
    crops = [picture[MIDDLE, MIDDLE] for picture in pictures]
    return crops if size == CROP else [np.asarray(cv2.resize(crop, (size, size)), np.uint8) for crop in crops]


def load_canvases(identity_folder: Path, nameless_folder: Path | None, cache: Path, named: bool = True) -> CanvasSet:
    """Decode `<identity>/*.webp` (and any pictures below `nameless_folder`) into a cache, or open the cache.

    `named=False`: the first folder's people have no names either.

    Raises:
        ConfigError: no picture was found.
    """
    files = [(path, path.parent.name if named else NAMELESS) for path in pictures_below(identity_folder)]
    if named:  # what lies beside the people's folders is a sheet to look at
        files = [(path, name) for path, name in files if path.parent != identity_folder]
    if nameless_folder is not None:
        files += [(path, NAMELESS) for path in pictures_below(nameless_folder)]
    if not files:
        raise ConfigError(f"no picture below {identity_folder}")
    key = hashlib.sha256("\n".join(_described(path, name) for path, name in files).encode()).hexdigest()[:16]
    array, index = cache / f"canvases-{key}.npy", cache / f"canvases-{key}.json"
    if not index.exists():
        cache.mkdir(parents=True, exist_ok=True)
        _decode_all([path for path, _ in files], array)
        index.write_text(json.dumps([name for _, name in files]))
    return CanvasSet(np.load(array, mmap_mode="r"), json.loads(index.read_text()), [path for path, _ in files], array)


def _described(path: Path, name: str) -> str:
    """By its content: a file prepared anew is another, an archive unpacked again is the same."""
    return f"{name} {path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}"


def _decode_all(files: list[Path], into: Path) -> None:
    pictures = np.lib.format.open_memmap(into, mode="w+", dtype=np.uint8, shape=(len(files), CANVAS, CANVAS, 3))

    def keep(row: int) -> None:
        pictures[row] = _decode(files[row])

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # decoders let other threads run
        for _ in track(pool.map(keep, range(len(files))), total=len(files), description="decoding canvases"):
            pass
    pictures.flush()


def _decode(path: Path) -> npt.NDArray[np.uint8]:
    picture = decode(path.read_bytes(), ImageLimits())
    if picture.shape[:2] == (CANVAS, CANVAS):
        return picture
    return np.asarray(cv2.resize(picture, (CANVAS, CANVAS), interpolation=cv2.INTER_AREA), np.uint8)
