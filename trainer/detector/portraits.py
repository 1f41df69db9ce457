"""Selects photos that show exactly one face. The hard cases alter these photos."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from service.inference.engine import FaceFinder
from service.vision.image import Pixels
from trainer.detector.labels import Floats, LabelledFace
from trainer.pictures import pictures_below, read_picture
from trainer.progress import track

NOSE_DEPTH = 0.9
"""Distance of the nose tip from the plane of the eyes, divided by half the distance between the eyes. People differ, so
a yaw is an estimate."""
YAW_BINS = ((0, 15), (15, 30), (30, 45), (45, 90))
"""Ranges of the yaw in degrees, to either side."""
PROFILE_YAW = 45


@dataclass(frozen=True)
class Portrait:
    """A (height, width, 3) photo and the label of its only face."""

    pixels: Pixels
    face: LabelledFace


def select_portraits(
    folder: Path, detector: FaceFinder, min_score: float, limit: int, min_yaw: float = 0, seed: int = 0
) -> list[Portrait]:
    """Draws up to `limit` photos below a folder, in which the detector detects exactly one face with landmarks.

    Args:
        min_yaw: minimum yaw of the face in degrees.

    Raises:
        ValueError: no photo qualifies.
    """
    turned = (item for item in _candidates(folder, detector, min_score, seed) if yaw(item.face.landmarks) >= min_yaw)
    candidates = itertools.islice(turned, limit)
    portraits = list(track(candidates, description="photos with one face", total=limit))
    if not portraits and min_yaw == 0:
        raise ValueError(f"no photo below {folder} shows exactly one face with a score of at least {min_score}")
    return portraits


def yaw(landmarks: Floats) -> float:
    """Estimates by how many degrees a face is turned to a side, 0 to 90, from the nose's position between the eyes.

    Args:
        landmarks: (5, 2) or more columns; the first three rows are left eye, right eye and nose tip.
    """
    left, right, nose = landmarks[0, :2], landmarks[1, :2], landmarks[2, :2]
    axis = right - left
    length = float(np.hypot(*axis))
    if length < 1e-6:
        return 90.0
    offset = abs(2 * float((nose - left) @ axis) / length**2 - 1)
    return float(np.degrees(np.arctan(offset / NOSE_DEPTH)))


def in_yaw_bin(portraits: Sequence[Portrait], limits: tuple[int, int]) -> list[Portrait]:
    low, high = limits
    return [
        item for item in portraits if low <= yaw(item.face.landmarks) < high or (high == 90 == yaw(item.face.landmarks))
    ]


def yaw_bin_name(limits: tuple[int, int]) -> str:
    return f"yaw {limits[0]}° to {limits[1]}°"


def _candidates(folder: Path, detector: FaceFinder, min_score: float, seed: int) -> Iterator[Portrait]:
    paths = pictures_below(folder)
    for index in np.random.default_rng(seed).permutation(len(paths)):
        if (pixels := read_picture(paths[index])) is None:
            continue
        detections = [face for face in detector.detect([pixels])[0] if face.score >= min_score]
        if len(detections) == 1 and detections[0].landmarks is not None:
            box = np.array(detections[0].box, np.float32)
            yield Portrait(pixels, LabelledFace(box, detections[0].landmarks))
