"""What a folder of people's pictures is like: how many of whom, how large, how bright, and what is in it twice."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from rich.progress import track
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from service.vision.image import Pixels
from trainer.pictures import read_picture

HASH_SIDE = 16
NEAR_BITS = 20
"""Of 256 in which the difference hashes of two pictures may differ, to be called nearly the same: aligned faces of
several people come as near as 25."""


@dataclass(frozen=True)
class Picture:
    """One readable picture.

    Attributes:
        mean, std: of each channel, in levels of 0...255.
        look: 256 bits that stay nearly the same when a picture is scaled or stored anew (difference hash, Krawetz).
    """

    identity: str
    path: Path
    width: int
    height: int
    mean: npt.NDArray[np.float64]
    std: npt.NDArray[np.float64]
    look: npt.NDArray[np.bool_]


def examine(people: Sequence[tuple[str, Sequence[Path]]]) -> tuple[list[Picture], list[Path]]:
    """Every picture that can be read, and the files that can't."""
    items = [(name, path) for name, paths in people for path in paths]
    with ThreadPoolExecutor() as pool:
        looked = list(track(pool.map(lambda item: _examine(*item), items), total=len(items), description="looking"))
    pictures = [picture for picture in looked if picture is not None]
    return pictures, [path for (_, path), picture in zip(items, looked, strict=True) if picture is None]


def _examine(identity: str, path: Path) -> Picture | None:
    pixels = read_picture(path)
    if pixels is None:
        return None
    mean, std = (np.asarray(part, np.float64).ravel() for part in cv2.meanStdDev(pixels))
    height, width = pixels.shape[:2]
    return Picture(identity, path, width, height, mean, std, difference_hash(pixels))


def difference_hash(pixels: Pixels) -> npt.NDArray[np.bool_]:
    """(256,) bits: whether each cell of a 16 x 17 grey thumbnail is darker than its right neighbour."""
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (HASH_SIDE + 1, HASH_SIDE), interpolation=cv2.INTER_AREA).astype(int)
    return np.asarray(small[:, :-1] < small[:, 1:]).ravel()


def channel_statistics(pictures: Sequence[Picture]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean and standard deviation of each channel over all pixels, every picture counted alike, in 0...1."""
    means, stds = np.array([p.mean for p in pictures]) / 255, np.array([p.std for p in pictures]) / 255
    mean = means.mean(axis=0)
    return mean, np.sqrt((stds**2 + means**2).mean(axis=0) - mean**2)


def duplicates(pictures: Sequence[Picture]) -> list[list[Picture]]:
    """Groups of pictures that are the same or look nearly so, also through a third one; the largest group first."""
    looks = np.array([picture.look for picture in pictures], np.float32).reshape(len(pictures), -1)
    ones = looks.sum(axis=1)
    near: list[npt.NDArray[np.intp]] = []
    for row, look in enumerate(track(looks, description="comparing")):
        distances = ones[row + 1 :] + ones[row] - 2 * looks[row + 1 :] @ look
        near.append(np.flatnonzero(distances <= NEAR_BITS) + row + 1)
    others = np.concatenate(near)
    rows = np.repeat(np.arange(len(pictures)), [len(places) for places in near])
    count = len(pictures)
    _, numbers = connected_components(coo_array((np.ones(len(rows)), (rows, others)), shape=(count, count)))
    groups: dict[int, list[Picture]] = {}
    for number, picture in zip(numbers, pictures, strict=True):
        groups.setdefault(int(number), []).append(picture)
    return sorted((group for group in groups.values() if len(group) > 1), key=len, reverse=True)
