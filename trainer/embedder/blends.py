"""Blends of two faces as further pictures for distillation.

A network that distils from few pictures overfits them. A blend shows a face that exists
in no picture, and the teacher says what its embedding is: mixed pictures with the teacher's answer for the mixed
picture (Beyer et al., "Knowledge distillation: A good teacher is patient and consistent", CVPR 2022). The weights of
the two faces vary smoothly over the picture, so that a blend has parts of both.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from trainer.cache import atomic_file, content_key
from trainer.embedder.aligned_crops import CROP_SIZE, UNLABELLED, AlignedCrops
from trainer.progress import track

GRID = 3
"""Cells per side of the random weights, which are interpolated to the size of a crop."""
Rows = npt.NDArray[np.int64]


def with_blends(crops: AlignedCrops, rows: Rows, count: int, seed: int, cache: Path) -> AlignedCrops:
    """Returns the crops and `count` blends without labels after them; the same crops if there are none.

    The pictures are copied, 77 kB each, into a file of the cache.

    Args:
        rows: The pictures that are blended: those of the training part, so that no held-out face is in a blend.
    """
    if not count or not len(rows):
        return crops
    array = cache / f"blends-{content_key(crops.key, rows.tobytes(), f'{count} {seed}')}.npy"
    if not array.exists():
        with atomic_file(array) as unfinished:
            _write(crops, rows, count, seed, unfinished)
    return AlignedCrops(
        np.load(array, mmap_mode="r"),
        [*crops.identities, *[UNLABELLED] * count],
        [*crops.files, *[array] * count] if crops.files else [],
        array,
        [*crops.parts, *[crops.parts[rows[0]]] * count] if crops.parts else [],
    )


def blend(
    first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8], weights: npt.NDArray[np.float32]
) -> npt.NDArray[np.uint8]:
    """Returns the weighted mean of two (160, 160, 3) crops.

    Args:
        weights: (3, 3) weights of the first crop, 0 to 1, which are interpolated linearly.
    """
    size = (CROP_SIZE, CROP_SIZE)
    weight = cv2.resize(weights, size, interpolation=cv2.INTER_LINEAR)[..., None]
    return np.asarray(np.rint(second + weight * (first.astype(np.float32) - second)), np.uint8)


def _write(crops: AlignedCrops, rows: Rows, count: int, seed: int, array: Path) -> None:
    generator = np.random.default_rng(seed)
    pairs = np.stack([generator.choice(rows, count), generator.choice(rows, count)], axis=1)
    weights = generator.random((count, GRID, GRID), np.float32)
    total = len(crops) + count
    pictures = np.lib.format.open_memmap(array, mode="w+", dtype=np.uint8, shape=(total, CROP_SIZE, CROP_SIZE, 3))

    def store(row: int) -> None:
        if row < len(crops):
            pictures[row] = crops.pictures[row]
            return
        index = row - len(crops)
        first, second = (crops.pictures[number] for number in pairs[index])
        pictures[row] = blend(first, second, weights[index])

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # OpenCV and NumPy release the interpreter lock
        for _ in track(pool.map(store, range(total)), "blending aligned crops", total):
            pass
    pictures.flush()
