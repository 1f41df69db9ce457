"""Errors by group: what false match rate people of one race, gender or age really get at a common threshold.

FairFace (Kärkkäinen and Joo, WACV 2021) has no names: every picture counts as another person, and some people appear
twice. Its tight crops end at the forehead, and the canvases repeat their border there, which makes all of them a little
alike. So the rates of the whole set are higher than those of photos; what tells something about a group is its rate
beside everyone's.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from service.inference.bundle import Calibration
from service.inference.embedder import FaceEmbedder
from service.inference.engine import FaceFinder
from trainer.embedder.embedding import embed_pictures

Floats = npt.NDArray[np.float32]
ATTRIBUTES = ("race", "gender", "age")
SPLIT = "val"
EVERYONE = ("all", "everyone")
RATES = (1e-2, 1e-3, 1e-4)
FEWEST_PEOPLE = 30
BATCH = 32


@dataclass(frozen=True)
class Group:
    """One value of one attribute.

    Attributes:
        found: share of the pictures in which the detector finds a face.
        quality: median quality score, None where the bundle can't tell.
        fmr: measured false match rate within the group at the threshold for each asked rate.
    """

    attribute: str
    value: str
    people: int
    found: float
    quality: float | None
    fmr: dict[float, float]


def measure_groups(
    folder: Path, detector: FaceFinder, embedder: FaceEmbedder, calibration: Calibration | None
) -> list[Group]:
    """Measure the groups of `fairface.csv` (file, age, gender, race, split) on the canvases beside it."""
    with (folder / "fairface.csv").open() as file:
        lines = [line for line in csv.DictReader(file) if line["split"] == SPLIT]
    embeddings, lengths, found = _embed(folder, lines, detector, embedder)
    points = [point for point in (calibration.points if calibration else []) if point.fmr in RATES]
    groups = []
    for attribute, value in (EVERYONE, *_groups(lines)):
        rows = np.flatnonzero([(attribute, value) == EVERYONE or line[attribute] == value for line in lines])
        if len(rows) < FEWEST_PEOPLE:
            continue
        scores = (embeddings[rows] @ embeddings[rows].T)[np.triu_indices(len(rows), 1)]
        quality = embedder.quality(float(np.median(lengths[rows])))
        rates = {point.fmr: float(np.mean(scores >= point.threshold)) for point in points}
        groups.append(Group(attribute, value, len(rows), float(found[rows].mean()), quality, rates))
    return groups


def _groups(lines: list[dict[str, str]]) -> Iterator[tuple[str, str]]:
    for attribute in ATTRIBUTES:
        yield from ((attribute, value) for value in sorted({line[attribute] for line in lines}, key=_by_number))


def _by_number(value: str) -> tuple[int, str]:
    digits = "".join(character for character in value.split("-")[0] if character.isdigit())
    return int(digits or 0), value


def _embed(
    folder: Path, lines: list[dict[str, str]], detector: FaceFinder, embedder: FaceEmbedder
) -> tuple[Floats, Floats, npt.NDArray[np.bool_]]:
    embeddings, lengths, found = [], [], []
    for start in range(0, len(lines), BATCH):
        pictures = []
        for line in lines[start : start + BATCH]:
            with Image.open(folder / line["file"]) as picture:
                pictures.append(np.asarray(picture.convert("RGB")))
        vectors, length = embed_pictures(embedder, np.stack(pictures), detector)
        embeddings.append(vectors)
        lengths.append(length)
        found += [len(detections) > 0 for detections in detector.detect(pictures)]
    return np.concatenate(embeddings), np.concatenate(lengths), np.array(found)
