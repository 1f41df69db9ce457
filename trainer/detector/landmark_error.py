"""Measures how far a detector's landmarks lie from those of a reference detector, on faces that both detect."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.inference.engine import Detection
from trainer.detector.evaluation import match

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class LandmarkError:
    """Distances, divided by the inter-ocular distance of the reference's landmarks.

    Attributes:
        faces: number of faces that both detectors detect.
        median: median over all points of all faces.
        by_point: (5,) medians of left eye, right eye, nose tip, left and right mouth corner, as seen in the picture.
    """

    faces: int
    median: float
    by_point: Floats


def landmark_error(pairs: Iterable[tuple[list[Detection], list[Detection]]]) -> LandmarkError:
    """Compares a detector with a reference.

    Args:
        pairs: for each picture the detections of the detector and of the reference, both at their operating scores.

    Raises:
        ValueError: the two have no face with landmarks in common.
    """
    errors: list[Floats] = []
    for detections, reference in pairs:
        boxes = np.array([face.box for face in reference], np.float32).reshape(-1, 4)
        for face, index in match(detections, boxes):
            landmarks = None if index is None else reference[index].landmarks
            if landmarks is None or face.landmarks is None:
                continue
            expected = landmarks[:, :2]
            eye_distance = float(np.linalg.norm(expected[0] - expected[1]))
            if eye_distance > 0:
                errors.append(np.linalg.norm(face.landmarks[:, :2] - expected, axis=1) / eye_distance)
    if not errors:
        raise ValueError("the two detectors have no face with landmarks in common")
    distances = np.array(errors, np.float32)
    return LandmarkError(len(errors), float(np.median(distances)), np.median(distances, axis=0))
