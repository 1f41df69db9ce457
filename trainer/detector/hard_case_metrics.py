"""Measures a detector on the hard cases.

The ground truth of a case is the face that a detector reports in the unchanged photo, transformed by the alteration.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from service.inference.engine import Detection, FaceFinder
from service.vision.image import Pixels
from trainer.detector.hard_cases import CASES
from trainer.detector.labels import LabelledFace
from trainer.detector.portraits import YAW_BINS, Portrait, in_yaw_bin, yaw_bin_name
from trainer.detector.sheets import draw_detections
from trainer.progress import track
from trainer.sheets import sheet

MAX_LANDMARK_ERROR = 0.15
"""Maximum mean distance of correct landmarks from the expected landmarks, divided by the distance between the eyes."""
EXAMPLES = 8


@dataclass(frozen=True)
class CaseResult:
    """Result of one case: number of faces, and the shares that are detected and that have correct landmarks."""

    faces: int
    detected: float
    landmarks_correct: float


def measure(detector: FaceFinder, min_score: float, portraits: Sequence[Portrait]) -> dict[str, CaseResult]:
    """Measures every case of `CASES` on every portrait."""
    results = {}
    for name, alter in track(CASES.items(), description="hard cases"):
        rng = np.random.default_rng(0)
        altered = [alter(portrait, rng) for portrait in portraits]
        detections = [detect(detector, picture.pixels, min_score) for picture in altered]
        results[name] = judge([picture.face for picture in altered], detections)
    return results


def measure_by_yaw(detector: FaceFinder, min_score: float, portraits: Sequence[Portrait]) -> dict[str, CaseResult]:
    """Measures the unchanged portraits of each range of yaw that occurs; see `portraits.yaw`."""
    results = {}
    for limits in YAW_BINS:
        if chosen := in_yaw_bin(portraits, limits):
            detections = [detect(detector, portrait.pixels, min_score) for portrait in chosen]
            results[yaw_bin_name(limits)] = judge([portrait.face for portrait in chosen], detections)
    return results


def judge(faces: Sequence[LabelledFace], detections: Sequence[Sequence[Detection]]) -> CaseResult:
    """Compares each expected face with the detections in its picture."""
    matches = [_matching(face, candidates) for face, candidates in zip(faces, detections, strict=True)]
    correct = [
        detection is not None and _landmark_error(face, detection) <= MAX_LANDMARK_ERROR
        for face, detection in zip(faces, matches, strict=True)
    ]
    detected = [detection is not None for detection in matches]
    return CaseResult(len(faces), float(np.mean(detected)), float(np.mean(correct)))


def share_detected(detector: FaceFinder, min_score: float, picture: Pixels, faces: Sequence[LabelledFace]) -> float:
    """Returns the share of the faces of one picture that the detector detects, 0 to 1."""
    detections = detect(detector, picture, min_score)
    return float(np.mean([_matching(face, detections) is not None for face in faces]))


def example_sheet(detector: FaceFinder, min_score: float, portraits: Sequence[Portrait]) -> Pixels:
    """Tiles the detections in a few altered portraits: one row per case, one column per portrait."""
    tiles = []
    shown = [portraits[index % len(portraits)] for index in range(EXAMPLES)]
    for alter in CASES.values():
        rng = np.random.default_rng(0)
        for portrait in shown:
            pixels = alter(portrait, rng).pixels
            tiles.append(draw_detections(pixels, detect(detector, pixels, min_score)))
    return sheet(tiles, EXAMPLES, 140)


def detect(detector: FaceFinder, picture: Pixels, min_score: float) -> list[Detection]:
    """Returns the detections in one picture with at least the minimum score."""
    return [face for face in detector.detect([picture])[0] if face.score >= min_score]


def _matching(face: LabelledFace, detections: Sequence[Detection]) -> Detection | None:
    """Returns the detection whose centre lies in the face's box and whose side is 0.5 to 2 times as long as the face's.

    Intersection over union is not used, because boxes of rotated and cropped faces differ between detectors.
    """
    side = _side(face.box)
    for detection in detections:
        box = np.array(detection.box, np.float32)
        centre = (box[:2] + box[2:]) / 2
        inside = bool((centre > face.box[:2]).all() and (centre < face.box[2:]).all())
        if inside and 0.5 < _side(box) / side < 2:
            return detection
    return None


def _side(box: "np.ndarray[tuple[int, ...], np.dtype[np.float32]]") -> float:
    """Returns the side of the square that has the area of the box, in pixels."""
    return math.sqrt(max(float(np.prod(box[2:] - box[:2])), 1e-6))


def _landmark_error(face: LabelledFace, detection: Detection) -> float:
    if detection.landmarks is None:
        return math.inf
    eye_distance = max(float(np.linalg.norm(face.landmarks[0, :2] - face.landmarks[1, :2])), 1e-6)
    shown = face.landmarks[:, 2] > 0
    if not shown.any():
        return math.inf
    distances = np.linalg.norm(detection.landmarks[shown, :2] - face.landmarks[shown, :2], axis=1)
    return float(distances.mean() / eye_distance)
