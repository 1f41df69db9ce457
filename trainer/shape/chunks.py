"""Landmarks of many faces in files of some thousand each, so that a large set is never held in memory while it is made.

A chunk is an `.npz` with `landmarks` (N, 5, 3) x, y, confidence in pixels, and `identities` (N,) names.
"""

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
LARGEST = 5_000


@dataclass(frozen=True)
class Landmarks:
    """(N, 5, 3) landmarks of N faces, and whose they are."""

    points: Floats
    identities: list[str]


def write_chunks(faces: Iterable[tuple[str, Floats]], output: Path, largest: int = LARGEST) -> int:
    """Write `chunk-00000.npz`, `chunk-00001.npz`, …; returns the number of faces."""
    output.mkdir(parents=True, exist_ok=True)
    names: list[str] = []
    points: list[Floats] = []
    total = number = 0

    def flush() -> None:
        nonlocal number
        if names:
            np.savez(output / f"chunk-{number:05}.npz", landmarks=np.stack(points), identities=np.array(names))
            number += 1
            names.clear()
            points.clear()

    for name, landmarks in faces:
        names.append(name)
        points.append(landmarks)
        total += 1
        if len(names) == largest:
            flush()
    flush()
    return total


def read_chunks(folder: Path) -> Landmarks:
    """Raises ConfigError where there are none."""
    files = sorted(folder.glob("chunk-*.npz"))
    if not files:
        raise ConfigError(f"{folder} holds no chunk-*.npz: `python -m trainer shape chunks` writes them")
    parts = [np.load(file, allow_pickle=False) for file in files]
    points = np.concatenate([part["landmarks"] for part in parts])
    return Landmarks(points, [str(name) for part in parts for name in part["identities"]])


def faces_of_rows(rows: Iterable[Row], finder: FaceFinder) -> Iterator[tuple[str, Floats]]:
    """The landmarks of the strongest face of every picture that shows one."""
    for row in rows:
        try:
            found = finder.detect([decode(row.data, ImageLimits())])[0]
        except RegistryError:
            continue
        if found and found[0].landmarks is not None:
            yield row.label, found[0].landmarks


def faces_of_canvases(points: Floats, identities: list[str]) -> Iterator[tuple[str, Floats]]:
    """Of (N, 6, 3) landmarks of canvases the five of every face that was found."""
    for name, face in zip(identities, points, strict=True):
        if name and face[:5, 2].all():
            yield name, face[:5]
