"""Test-time augmentation of landmarks: the median over mirrored, scaled and shifted views of a picture."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from service.inference.engine import Detection, FaceFinder
from service.vision.image import Pixels
from trainer.detector.evaluation import match
from trainer.detector.labels import MIRRORED_ORDER

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class View:
    """A view of a picture: mirrored or not, then scaled, then shifted by pixels to the right and down.

    The shift repeats the pixels of the left and upper edge.
    """

    mirrored: bool = False
    scale: float = 1.0
    right: int = 0
    down: int = 0

    def apply(self, picture: Pixels) -> Pixels:
        """Applies the view to a (height, width, 3) picture and returns the result."""
        oriented = picture[:, ::-1] if self.mirrored else picture
        scaled = cv2.resize(np.ascontiguousarray(oriented), None, fx=self.scale, fy=self.scale)
        return np.asarray(cv2.copyMakeBorder(scaled, self.down, 0, self.right, 0, cv2.BORDER_REPLICATE), np.uint8)

    def invert(self, face: Detection, width: int) -> Detection:
        """Returns a face of the view in pixels of the original picture, which is `width` pixels wide."""
        corners = self._invert_points(np.array(face.box, np.float32).reshape(2, 2), width)
        if self.mirrored:
            corners[:, 0] = corners[::-1, 0]
        landmarks = face.landmarks
        if landmarks is not None:
            order = MIRRORED_ORDER if self.mirrored else slice(None)
            points = self._invert_points(landmarks[:, :2], width)
            landmarks = np.concatenate([points, landmarks[:, 2:]], axis=1)[order]
        return Detection(tuple(map(float, corners.ravel())), face.score, landmarks)  # type: ignore[arg-type]

    def _invert_points(self, points: Floats, width: int) -> Floats:
        original = (points - np.array([self.right, self.down], np.float32)) / np.float32(self.scale)
        if self.mirrored:
            original[:, 0] = width - original[:, 0]
        return original


VIEWS = (
    View(scale=0.93, right=3, down=5),
    View(scale=1.07, right=6, down=1),
    View(right=5, down=3),
    View(mirrored=True),
    View(mirrored=True, scale=0.93, right=2, down=6),
    View(mirrored=True, scale=1.07, right=4, down=2),
)


class MedianLandmarkDetector:
    """Wraps a detector: the same boxes and scores, with the median of the landmarks over several views.

    YuNet's landmarks move by a tenth of the distance between the eyes when a picture is shifted by a few pixels.
    Training targets and reference landmarks must not contain this noise.

    Args:
        include_original: the landmarks of the unchanged picture count too. Without them, the result is independent
            of the detector's answer for the unchanged picture and can serve as its reference.
    """

    def __init__(self, detector: FaceFinder, views: Sequence[View] = VIEWS, include_original: bool = True) -> None:
        self._detector, self._views, self._include_original = detector, views, include_original

    def detect(self, pictures: Sequence[Pixels]) -> list[list[Detection]]:
        return [self._detect_one(picture) for picture in pictures]

    def _detect_one(self, picture: Pixels) -> list[Detection]:
        faces = self._detector.detect([picture])[0]
        samples = [[face.landmarks] if self._include_original else [] for face in faces]
        boxes = np.array([face.box for face in faces], np.float32).reshape(-1, 4)
        for view in self._views if faces else ():
            detections = self._detector.detect([view.apply(picture)])[0]
            for face, index in match([view.invert(face, picture.shape[1]) for face in detections], boxes):
                if index is not None:
                    samples[index].append(face.landmarks)
        return [replace(face, landmarks=_median(landmarks)) for face, landmarks in zip(faces, samples, strict=True)]


def _median(samples: Sequence[Floats | None]) -> Floats | None:
    landmarks = [sample for sample in samples if sample is not None]
    return np.median(landmarks, axis=0).astype(np.float32) if landmarks else None
