"""Measures false match rates by group: people of one race, gender or age, at one common threshold.

FairFace (Kärkkäinen and Joo, WACV 2021) has no identities: every picture counts as another person, and some people
appear twice. Its tight crops end at the forehead, so the aligned crops repeat their border there and resemble each
other. Without a cohort the rates of the whole set are therefore higher than those of photos.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from service.inference.calibration import Calibration
from service.inference.embedder import FaceEmbedder
from service.inference.engine import FaceFinder
from trainer.embedder.embedding import embed_pictures
from trainer.progress import track

Floats = npt.NDArray[np.float32]
ATTRIBUTES = ("race", "gender", "age")
SPLIT = "val"
EVERYONE = ("all", "everyone")
RATES = (1e-2, 1e-3, 1e-4)
MIN_PEOPLE = 30
BATCH = 32


@dataclass(frozen=True)
class Group:
    """Figures of one value of one attribute.

    Attributes:
        detection_rate: Fraction of the pictures in which the detector detects a face.
        quality: Median quality score; None if the bundle has no reference lengths.
        fmr: False match rate within the group, by the false match rate of the calibrated threshold.
        uncorrected_fmr: The same of the model without its cohort, at its own thresholds; empty: it has no cohort.
    """

    attribute: str
    value: str
    people: int
    detection_rate: float
    quality: float | None
    fmr: dict[float, float]
    uncorrected_fmr: dict[float, float]


def measure_groups(
    folder: Path, detector: FaceFinder, embedder: FaceEmbedder, calibration: Calibration | None
) -> list[Group]:
    """Measures the groups of `fairface.csv` (file, age, gender, race, split) on the aligned crops beside it.

    The first group is everyone. Groups of fewer than 30 pictures are omitted.
    """
    with (folder / "fairface.csv").open() as file:
        lines = [line for line in csv.DictReader(file) if line["split"] == SPLIT]
    embeddings, lengths = _embed(folder, lines, detector, embedder)
    has_face = _faces_detected(folder, lines, detector)
    uncorrected = embedder.uncorrected()
    raw = None if uncorrected is None else _embed(folder, lines, detector, uncorrected)[0]
    groups = []
    for attribute, value in (EVERYONE, *_groups(lines)):
        rows = np.flatnonzero([(attribute, value) == EVERYONE or line[attribute] == value for line in lines])
        if len(rows) < MIN_PEOPLE:
            continue
        quality = embedder.quality(float(np.median(lengths[rows])))
        rates = _false_match_rates(embeddings[rows], calibration)
        before = {}
        if raw is not None and uncorrected is not None:
            before = _false_match_rates(raw[rows], uncorrected.manifest.calibration)
        groups.append(Group(attribute, value, len(rows), float(has_face[rows].mean()), quality, rates, before))
    return groups


def _false_match_rates(embeddings: Floats, calibration: Calibration | None) -> dict[float, float]:
    scores = (embeddings @ embeddings.T)[np.triu_indices(len(embeddings), 1)]
    points = [point for point in (calibration.points if calibration else []) if point.fmr in RATES]
    return {point.fmr: float(np.mean(scores >= point.threshold)) for point in points}


def _groups(lines: list[dict[str, str]]) -> Iterator[tuple[str, str]]:
    for attribute in ATTRIBUTES:
        yield from ((attribute, value) for value in sorted({line[attribute] for line in lines}, key=_by_number))


def _by_number(value: str) -> tuple[int, str]:
    """Sorts age ranges such as 3-9 and 10-19 by their first number."""
    digits = "".join(character for character in value.split("-")[0] if character.isdigit())
    return int(digits or 0), value


def _embed(
    folder: Path, lines: list[dict[str, str]], detector: FaceFinder, embedder: FaceEmbedder
) -> tuple[Floats, Floats]:
    parts = [
        embed_pictures(embedder, np.stack(pictures), detector)
        for pictures in _pictures(folder, lines, f"embedding groups with {embedder.manifest.model_id}")
    ]
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def _faces_detected(folder: Path, lines: list[dict[str, str]], detector: FaceFinder) -> npt.NDArray[np.bool_]:
    batches = _pictures(folder, lines, "detecting faces of groups")
    return np.array([len(faces) > 0 for pictures in batches for faces in detector.detect(pictures)])


def _pictures(folder: Path, lines: list[dict[str, str]], description: str) -> Iterator[list[npt.NDArray[np.uint8]]]:
    for start in track(range(0, len(lines), BATCH), description=description):
        pictures = []
        for line in lines[start : start + BATCH]:
            with Image.open(folder / line["file"]) as picture:
                pictures.append(np.asarray(picture.convert("RGB")))
        yield pictures
