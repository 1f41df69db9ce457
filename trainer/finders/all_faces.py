"""Lets the service's pipeline use any face finder."""

from collections.abc import Sequence

from service.inference.detector import YoloFaceDetector
from service.inference.engine import Box, Detection, FaceChoice, FaceDetector, FaceFinder
from service.vision.image import Pixels


class AllFaces:
    """Detects all faces, whichever face is needed."""

    def __init__(self, finder: FaceFinder) -> None:
        self._finder = finder

    def detect(self, pictures: Sequence[Pixels], _: Sequence[FaceChoice]) -> list[list[Detection]]:
        return self._finder.detect(pictures)

    def refine(self, _: Sequence[Pixels], detections: Sequence[list[Detection]]) -> list[list[Detection]]:
        """Returns the detections unchanged: the finder has one stage."""
        return list(detections)

    def locate(self, _: Pixels, __: Box) -> None:
        """Returns None: the finder cannot locate landmarks in a box."""


def as_detector(finder: FaceFinder) -> FaceDetector:
    """Returns a detector bundle unchanged, so that it behaves as in the service, and wraps other finders."""
    return finder if isinstance(finder, YoloFaceDetector) else AllFaces(finder)
