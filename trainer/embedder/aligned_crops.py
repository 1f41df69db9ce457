"""Aligned crops of faces as one memory-mapped array.

An aligned crop is an RGB picture of 160 x 160 pixels in which five landmarks lie at fixed positions. The embedder
receives its central 112 x 112 pixels. The margin of 24 pixels lets augmentation rotate, shift and scale without black
corners.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from service.vision.image import ImageLimits, decode
from trainer.cache import atomic_file, content_key
from trainer.configuration import ConfigError
from trainer.datasets.folders import divided_folders
from trainer.datasets.photos import SourcePart
from trainer.pictures import pictures_below
from trainer.progress import track

CROP_SIZE = 160
CENTRE_SIZE = 112
CENTRE = slice((CROP_SIZE - CENTRE_SIZE) // 2, (CROP_SIZE + CENTRE_SIZE) // 2)
UNLABELLED = ""
"""The identity of pictures whose person is unknown."""


@dataclass(frozen=True)
class AlignedCrops:
    """A set of N aligned crops.

    Attributes:
        pictures: (N, 160, 160, 3) uint8 RGB.
        identities: N names; "" for pictures without a label.
        files: The N files that the crops were read from.
        array: The cache file of the pictures.
        parts: The N parts that the data set itself assigns by its folders `train/` and `val/`; empty: it assigns none.
    """

    pictures: npt.NDArray[np.uint8]
    identities: list[str]
    files: list[Path] = field(default_factory=list)
    array: Path = Path()
    parts: list[SourcePart] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.identities)

    @property
    def key(self) -> str:
        """Identifies pictures and identities; artefacts computed from this set are cached under it."""
        parts = (str([str(part) for part in self.parts]),) if self.parts else ()
        return content_key(self.array.stem, str(self.identities), *parts)


def centre_crops(pictures: npt.NDArray[np.uint8], size: int = CENTRE_SIZE) -> list[npt.NDArray[np.uint8]]:
    """Returns the central 112 x 112 pixels of (N, 160, 160, 3) aligned crops, scaled to `size`."""
    crops = [picture[CENTRE, CENTRE] for picture in pictures]
    return crops if size == CENTRE_SIZE else [np.asarray(cv2.resize(crop, (size, size)), np.uint8) for crop in crops]


def load_aligned_crops(
    identity_folder: Path, unlabelled_folder: Path | None, cache: Path, labelled: bool = True
) -> AlignedCrops:
    """Opens `<identity>/*` below one folder and all pictures below another; decodes them into the cache first.

    If the folder contains `train/` and `val/` with the identities, they are parts.

    Args:
        unlabelled_folder: Pictures of unknown people, at any depth.
        labelled: False if the people of `identity_folder` are unknown as well.

    Raises:
        ConfigError: There is no picture, or one is not an aligned crop.
    """
    files = [(path, path.parent.name if labelled else UNLABELLED) for path in pictures_below(identity_folder)]
    if labelled:  # pictures directly in the folder are sheets for inspection, not crops
        files = [(path, name) for path, name in files if path.parent != identity_folder]
    if unlabelled_folder is not None:
        files += [(path, UNLABELLED) for path in pictures_below(unlabelled_folder)]
    if not files:
        raise ConfigError(f"there is no <identity>/<picture> below {identity_folder}")
    paths, identities = [path for path, _ in files], [name for _, name in files]
    array = cache / f"aligned-crops-{_key(files)}.npy"
    if not array.exists():
        with atomic_file(array) as unfinished:
            _decode_all(paths, unfinished)
    return AlignedCrops(np.load(array, mmap_mode="r"), identities, paths, array, _parts(paths, identity_folder))


def _parts(paths: list[Path], folder: Path) -> list[SourcePart]:
    """Returns the part of each picture; empty if the folder is not divided. Other pictures train."""
    divided = divided_folders(folder)
    if divided is None:
        return []
    return [next((part for root, part in divided if path.is_relative_to(root)), SourcePart.TRAIN) for path in paths]


def _key(files: list[tuple[Path, str]]) -> str:
    """Returns a key of names and contents: it is the same when an archive is extracted again elsewhere."""
    hashed = track(files, description="hashing aligned crops")
    return content_key("\n".join(f"{name} {path.name} {content_key(path)}" for path, name in hashed))


def _decode_all(files: list[Path], array: Path) -> None:
    pictures = np.lib.format.open_memmap(array, mode="w+", dtype=np.uint8, shape=(len(files), CROP_SIZE, CROP_SIZE, 3))

    def store(row: int) -> None:
        pictures[row] = _decode(files[row])

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # decoders release the interpreter lock
        for _ in track(pool.map(store, range(len(files))), total=len(files), description="decoding aligned crops"):
            pass
    pictures.flush()


def _decode(path: Path) -> npt.NDArray[np.uint8]:
    picture = decode(path.read_bytes(), ImageLimits())
    if picture.shape[:2] != (CROP_SIZE, CROP_SIZE):
        raise ConfigError(
            f"{path} has {picture.shape[1]} x {picture.shape[0]} pixels and is not an aligned crop of {CROP_SIZE} x "
            f"{CROP_SIZE}: align the faces of photos with `identity-trainer prepare`, or use "
            "`identity-trainer run`; `explore` has --no-crops"
        )
    return picture
