"""Applies the filters of a model to aligned crops once, before training, and caches the result.

CLAHE and the bilateral filter take several milliseconds for each picture, more than a training step. Training filters
the whole crop and then changes it randomly; measurements and the service filter the aligned picture itself.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from service.vision.filtering import apply
from service.vision.filters import Filters
from trainer.cache import atomic_file, content_key
from trainer.embedder.aligned_crops import AlignedCrops
from trainer.progress import track


def filtered_crops(crops: AlignedCrops, filters: Filters, cache: Path) -> AlignedCrops:
    """Returns the crops with the filters applied; the same crops without filters."""
    if not filters.any:
        return crops
    array = cache / f"filtered-{content_key(crops.key, filters.model_dump_json())}.npy"
    if not array.exists():
        with atomic_file(array) as unfinished:
            _filter_all(crops, filters, unfinished)
    return AlignedCrops(np.load(array, mmap_mode="r"), crops.identities, crops.files, array, crops.parts)


def _filter_all(crops: AlignedCrops, filters: Filters, array: Path) -> None:
    pictures = np.lib.format.open_memmap(array, mode="w+", dtype=np.uint8, shape=crops.pictures.shape)

    def store(row: int) -> None:
        pictures[row] = apply(np.ascontiguousarray(crops.pictures[row]), filters)

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # OpenCV releases the interpreter lock
        for _ in track(pool.map(store, range(len(crops))), "filtering aligned crops", len(crops)):
            pass
    pictures.flush()
