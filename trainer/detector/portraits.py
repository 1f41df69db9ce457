"""Selects photos that show exactly one face. The hard cases alter these photos."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from service.inference.engine import FaceFinder
from service.vision.image import Pixels
from service.vision.quality import asymmetry
from trainer.detector.labels import LabelledFace
from trainer.pictures import pictures_below, read_picture
from trainer.progress import track

PROFILE_ASYMMETRY = 0.6
"""Minimum asymmetry (`service.vision.quality`) of a profile: the nose is four times as far from one eye as from the
other."""


@dataclass(frozen=True)
class Portrait:
    """A (height, width, 3) photo and the label of its only face."""

    pixels: Pixels
    face: LabelledFace


def select_portraits(folder: Path, detector: FaceFinder, min_score: float, limit: int, seed: int = 0) -> list[Portrait]:
    """Draws up to `limit` photos below a folder, in which the detector detects exactly one face with landmarks.

    Raises:
        ValueError: no photo qualifies.
    """
    candidates = itertools.islice(_candidates(folder, detector, min_score, seed), limit)
    portraits = list(track(candidates, description="photos with one face", total=limit))
    if not portraits:
        raise ValueError(f"no photo below {folder} shows exactly one face with a score of at least {min_score}")
    return portraits


def profiles(portraits: Sequence[Portrait]) -> list[Portrait]:
    """Returns the portraits whose face is turned far to a side."""
    return [portrait for portrait in portraits if asymmetry(portrait.face.landmarks[:, :2]) >= PROFILE_ASYMMETRY]


def _candidates(folder: Path, detector: FaceFinder, min_score: float, seed: int) -> Iterator[Portrait]:
    paths = pictures_below(folder)
    for index in np.random.default_rng(seed).permutation(len(paths)):
        if (pixels := read_picture(paths[index])) is None:
            continue
        detections = [face for face in detector.detect([pixels])[0] if face.score >= min_score]
        if len(detections) == 1 and detections[0].landmarks is not None:
            box = np.array(detections[0].box, np.float32)
            yield Portrait(pixels, LabelledFace(box, detections[0].landmarks))
