"""Computes statistics of pictures: sizes, colours, and groups of identical or nearly identical pictures."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from service.vision.image import Pixels
from trainer.pictures import read_picture
from trainer.progress import track

HASH_SIDE = 16
MAX_HASH_DISTANCE = 20
"""Maximum number of different bits, of 256, between the hashes of nearly identical pictures. Aligned faces of different
people differ in at least 25 bits."""


@dataclass(frozen=True)
class PictureStatistics:
    """Statistics of one picture.

    Attributes:
        width, height: pixels.
        mean, std: (3,) mean and standard deviation of each channel, in levels of 0 to 255.
        hash: (256,) difference hash.
    """

    identity: str
    path: Path
    width: int
    height: int
    mean: npt.NDArray[np.float64]
    std: npt.NDArray[np.float64]
    hash: npt.NDArray[np.bool_]


def examine(people: Sequence[tuple[str, Sequence[Path]]]) -> tuple[list[PictureStatistics], list[Path]]:
    """Reads the pictures of (identity, paths) pairs.

    Returns:
        The statistics of every readable picture, and the unreadable files.
    """
    items = [(name, path) for name, paths in people for path in paths]
    with ThreadPoolExecutor() as pool:
        results = pool.map(lambda item: _examine(*item), items)
        statistics = list(track(results, total=len(items), description="reading pictures"))
    pictures = [picture for picture in statistics if picture is not None]
    return pictures, [path for (_, path), picture in zip(items, statistics, strict=True) if picture is None]


def difference_hash(pixels: Pixels) -> npt.NDArray[np.bool_]:
    """Returns a perceptual hash of 256 bits, which changes little when a picture is scaled or compressed again.

    A bit says whether a pixel of the 16 x 17 grey thumbnail is darker than its right neighbour (Krawetz, "Kind of like
    that", 2013).
    """
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (HASH_SIDE + 1, HASH_SIDE), interpolation=cv2.INTER_AREA).astype(int)
    return np.asarray(small[:, :-1] < small[:, 1:]).ravel()


def channel_statistics(
    pictures: Sequence[PictureStatistics],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Returns (3,) mean and standard deviation of each channel over all pictures, in 0 to 1.

    Every picture has the same weight, regardless of its size.
    """
    means, stds = np.array([p.mean for p in pictures]) / 255, np.array([p.std for p in pictures]) / 255
    mean = means.mean(axis=0)
    return mean, np.sqrt((stds**2 + means**2).mean(axis=0) - mean**2)


def duplicates(pictures: Sequence[PictureStatistics]) -> list[list[PictureStatistics]]:
    """Returns groups of identical or nearly identical pictures, the largest group first.

    Groups are connected components: two pictures of a group may differ more than the maximum distance if a third one
    lies between them.
    """
    hashes = np.array([picture.hash for picture in pictures], np.float32).reshape(len(pictures), -1)
    ones = hashes.sum(axis=1)
    neighbours: list[npt.NDArray[np.intp]] = []
    for row, bits in enumerate(track(hashes, description="comparing pictures")):
        distances = ones[row + 1 :] + ones[row] - 2 * hashes[row + 1 :] @ bits
        neighbours.append(np.flatnonzero(distances <= MAX_HASH_DISTANCE) + row + 1)
    columns = np.concatenate(neighbours)
    rows = np.repeat(np.arange(len(pictures)), [len(others) for others in neighbours])
    count = len(pictures)
    _, components = connected_components(coo_array((np.ones(len(rows)), (rows, columns)), shape=(count, count)))
    groups: dict[int, list[PictureStatistics]] = {}
    for component, picture in zip(components, pictures, strict=True):
        groups.setdefault(int(component), []).append(picture)
    return sorted((group for group in groups.values() if len(group) > 1), key=len, reverse=True)


def _examine(identity: str, path: Path) -> PictureStatistics | None:
    pixels = read_picture(path)
    if pixels is None:
        return None
    mean, std = (np.asarray(part, np.float64).ravel() for part in cv2.meanStdDev(pixels))
    height, width = pixels.shape[:2]
    return PictureStatistics(identity, path, width, height, mean, std, difference_hash(pixels))
