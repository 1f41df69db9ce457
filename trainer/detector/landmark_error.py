"""How far a detector's landmarks lie from those of another one that sees the same faces."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.inference.engine import Detection
from trainer.detector.evaluation import match

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class LandmarkError:
    """Distances in parts of the inter-ocular distance of the reference's landmarks.

    Attributes:
        faces: how many both see.
        median: of all points of all faces.
        by_point: (5,) medians: left eye, right eye, nose, left and right corner of the mouth (as seen).
    """

    faces: int
    median: float
    by_point: Floats


def landmark_error(pairs: Iterable[tuple[list[Detection], list[Detection]]]) -> LandmarkError:
    """Compare, picture by picture, what a detector found with what the reference found, both at their working scores.

    Raises:
        ValueError: they have no face with landmarks in common.
    """
    errors: list[Floats] = []
    for found, reference in pairs:
        boxes = np.array([face.box for face in reference], np.float32).reshape(-1, 4)
        for face, index in match(found, boxes):
            landmarks = None if index is None else reference[index].landmarks
            if landmarks is None or face.landmarks is None:
                continue
            expected = landmarks[:, :2]
            span = float(np.linalg.norm(expected[0] - expected[1]))
            if span > 0:
                errors.append(np.linalg.norm(face.landmarks[:, :2] - expected, axis=1) / span)
    if not errors:
        raise ValueError("the two detectors have no face with landmarks in common")
    distances = np.array(errors, np.float32)
    return LandmarkError(len(errors), float(np.median(distances)), np.median(distances, axis=0))
