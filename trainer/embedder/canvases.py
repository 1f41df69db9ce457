"""Aligned face canvases as one memory-mapped array, decoded once.

A canvas is a square picture of 160 pixels whose middle 112 x 112 is the aligned crop; the margin leaves room for
rotation, shift and scale without black corners.
"""

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image
from rich.progress import track

CANVAS = 160
CROP = 112
MIDDLE = slice((CANVAS - CROP) // 2, (CANVAS + CROP) // 2)
SUFFIXES = {".webp", ".jpg", ".jpeg", ".png"}
NAMELESS = ""


@dataclass(frozen=True)
class CanvasSet:
    """`pictures`: (N, 160, 160, 3) uint8 RGB; `identities`: N names, "" where the person has none."""

    pictures: npt.NDArray[np.uint8]
    identities: list[str]

    def __len__(self) -> int:
        return len(self.identities)


def middle_crops(pictures: npt.NDArray[np.uint8], size: int = CROP) -> list[npt.NDArray[np.uint8]]:
    """The aligned crops in the middle of (N, 160, 160, 3) canvases, scaled to `size`."""
    crops = [picture[MIDDLE, MIDDLE] for picture in pictures]
    return crops if size == CROP else [np.asarray(cv2.resize(crop, (size, size)), np.uint8) for crop in crops]


def load_canvases(identity_folder: Path, nameless_folder: Path | None, cache: Path, named: bool = True) -> CanvasSet:
    """Decode `<identity>/*.webp` (and any pictures below `nameless_folder`) into a cache, or open the cache.

    `named=False`: the first folder's people have no names either.

    Raises:
        ValueError: no picture was found.
    """
    files = [(path, path.parent.name if named else NAMELESS) for path in _pictures(identity_folder)]
    if nameless_folder is not None:
        files += [(path, NAMELESS) for path in _pictures(nameless_folder)]
    if not files:
        raise ValueError(f"no picture below {identity_folder}")
    key = hashlib.sha256("\n".join(f"{name}/{path.name}" for path, name in files).encode()).hexdigest()[:16]
    array, index = cache / f"canvases-{key}.npy", cache / f"canvases-{key}.json"
    if not index.exists():
        cache.mkdir(parents=True, exist_ok=True)
        _decode_all([path for path, _ in files], array)
        index.write_text(json.dumps([name for _, name in files]))
    return CanvasSet(np.load(array, mmap_mode="r"), json.loads(index.read_text()))


def _pictures(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES)


def _decode_all(files: list[Path], into: Path) -> None:
    pictures = np.lib.format.open_memmap(into, mode="w+", dtype=np.uint8, shape=(len(files), CANVAS, CANVAS, 3))
    with ProcessPoolExecutor() as pool:
        decoded = pool.map(_decode, files, chunksize=64)
        for row, picture in enumerate(track(decoded, total=len(files), description="decoding canvases")):
            pictures[row] = picture
    pictures.flush()


def _decode(path: Path) -> npt.NDArray[np.uint8]:
    with Image.open(path) as picture:
        rgb = picture.convert("RGB")
        return np.asarray(rgb if rgb.size == (CANVAS, CANVAS) else rgb.resize((CANVAS, CANVAS)))
