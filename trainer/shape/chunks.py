"""Stores landmarks of many faces in files of 5,000 faces each, so that a large set never has to fit into memory.

A chunk is an `.npz` file with `landmarks`, (N, 5, 3) x, y in pixels and confidence, and `identities`, (N,) names.
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from service.errors import RegistryError
from service.inference.engine import FaceFinder
from service.vision.image import ImageLimits, decode
from trainer.configuration import ConfigError
from trainer.importing.parquet import Row

Floats = npt.NDArray[np.float32]
CHUNK_FACES = 5_000


@dataclass(frozen=True)
class Landmarks:
    """(N, 5, 3) landmarks of N faces, and their N identities."""

    points: Floats
    identities: list[str]


def write_chunks(faces: Iterable[tuple[str, Floats]], output: Path, chunk_faces: int = CHUNK_FACES) -> int:
    """Writes (identity, (5, 3) landmarks) into `chunk-00000.npz` and so on; returns the number of faces."""
    output.mkdir(parents=True, exist_ok=True)
    remaining = iter(faces)
    number = total = 0
    while chunk := list(itertools.islice(remaining, chunk_faces)):
        landmarks = np.stack([points for _, points in chunk])
        identities = np.array([name for name, _ in chunk])
        np.savez(output / f"chunk-{number:05}.npz", landmarks=landmarks, identities=identities)
        number += 1
        total += len(chunk)
    return total


def read_chunks(folder: Path) -> Landmarks:
    """Reads all chunks of a folder.

    Raises:
        ConfigError: the folder has no chunks.
    """
    files = sorted(folder.glob("chunk-*.npz"))
    if not files:
        raise ConfigError(f"{folder} has no chunk-*.npz; write them with `identity-trainer shape chunks`")
    parts = [np.load(file, allow_pickle=False) for file in files]
    points = np.concatenate([part["landmarks"] for part in parts])
    return Landmarks(points, [str(name) for part in parts for name in part["identities"]])


def faces_of_rows(rows: Iterable[Row], detector: FaceFinder) -> Iterator[tuple[str, Floats]]:
    """Yields identity and (5, 3) landmarks of the strongest face of each picture; skips pictures without a face."""
    for row in rows:
        try:
            detections = detector.detect([decode(row.data, ImageLimits())])[0]
        except RegistryError:
            continue
        if detections and detections[0].landmarks is not None:
            yield row.label, detections[0].landmarks


def faces_of_crops(points: Floats, identities: list[str]) -> Iterator[tuple[str, Floats]]:
    """Yields identity and (5, 3) landmarks of labelled crops with a detected face.

    Args:
        points: (N, 6, 3) landmarks of N aligned crops; confidence 0 means that no face was detected.
    """
    for name, face in zip(identities, points, strict=True):
        if name and face[:5, 2].all():
            yield name, face[:5]
