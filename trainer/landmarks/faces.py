"""Collects crops of faces with landmarks as training data of the landmark refiner."""

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from service.inference.engine import FaceFinder
from service.vision.alignment import align_with_margin
from service.vision.image import Pixels
from trainer.detector.evaluation import labelled_pictures, match
from trainer.detector.labels import LabelledFace, read_labels
from trainer.pictures import pictures_below, read_picture
from trainer.progress import track

Floats = npt.NDArray[np.float32]
CROP_SIZE = 160
MARGIN = 24.0
"""Margin in pixels around the aligned crop of 112 pixels."""
MIN_FACE_PX = 20
"""Minimum shorter side of a labelled box. Landmark labels of smaller faces are too inaccurate."""
SUSPECTED_SCORE = 0.3
"""Minimum score with which a further detection may be a second face; such a picture is not used."""


class Kind(enum.IntEnum):
    """Content of a crop."""

    LANDMARKED = 0
    """A face with known landmarks."""
    FACE = 1
    """A face that was aligned by rough landmarks; its true landmarks are unknown."""
    OTHER = 2
    """No face."""


@dataclass(frozen=True)
class Faces:
    """N crops.

    Attributes:
        pictures: (N, 160, 160, 3) uint8 RGB.
        landmarks: (N, 5, 2) x, y in pixels of the crop.
        kinds: (N,) values of `Kind`.
    """

    pictures: npt.NDArray[np.uint8]
    landmarks: Floats
    kinds: npt.NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.pictures)

    def summary(self) -> str:
        """Returns the number of crops of each kind as text."""
        landmarked, faces, others = (int((self.kinds == kind).sum()) for kind in Kind)
        return f"{landmarked} faces with landmarks, {faces} faces without landmarks, {others} crops without a face"


def labelled_faces(data: Path, split: str, detector: FaceFinder | None = None) -> Faces:
    """Collects the faces with landmarks of a split of an Ultralytics pose data set.

    Args:
        detector: replaces the labelled landmarks of every face that it detects. None: the labels are used.

    Raises:
        FileNotFoundError: the data set has no such split.
    """
    return align_all(_from_labels(data, split, detector))


def detected_faces(folder: Path, detector: FaceFinder, min_score: float, limit: int, seed: int = 0) -> Faces:
    """Collects the faces of pictures that show exactly one face, with the detector's landmarks.

    Args:
        limit: number of pictures drawn at random.
    """
    return align_all(_from_pictures(folder, detector, min_score, limit, seed))


def align_all(faces: Iterable[tuple[Pixels, Floats, Kind]]) -> Faces:
    """Aligns a crop of each picture by (5, 2) landmarks. Faces whose landmarks coincide are left out."""
    pictures, landmarks, kinds = [], [], []
    for pixels, points, kind in faces:
        try:
            crop, transform = align_with_margin(pixels, points, CROP_SIZE, MARGIN)
        except ValueError:  # The landmarks coincide.
            continue
        pictures.append(crop)
        landmarks.append(points @ transform[:, :2].T + transform[:, 2])
        kinds.append(kind)
    if not pictures:
        empty = np.zeros((0, CROP_SIZE, CROP_SIZE, 3), np.uint8)
        return Faces(empty, np.zeros((0, 5, 2), np.float32), np.zeros(0, np.uint8))
    return Faces(np.stack(pictures), np.stack(landmarks).astype(np.float32), np.array(kinds, np.uint8))


def join(parts: list[Faces]) -> Faces:
    """Concatenates the pictures, landmarks and kinds of several data sets."""
    return Faces(
        np.concatenate([part.pictures for part in parts]),
        np.concatenate([part.landmarks for part in parts]),
        np.concatenate([part.kinds for part in parts]),
    )


def _from_labels(data: Path, split: str, detector: FaceFinder | None) -> Iterator[tuple[Pixels, Floats, Kind]]:
    for picture in labelled_pictures(data, split):
        pixels = picture.pixels
        labels = data / "labels" / split / f"{picture.path.stem}.txt"
        faces = read_labels(labels, pixels.shape[1], pixels.shape[0])
        usable = [face for face in faces if face.landmarks[:, 2].all() and _shorter_side(face) >= MIN_FACE_PX]
        points = [face.landmarks[:, :2] for face in usable]
        if detector is not None and usable:
            boxes = np.array([face.box for face in usable], np.float32)
            for detection, index in match(detector.detect([pixels])[0], boxes):
                if index is not None and detection.landmarks is not None:
                    points[index] = detection.landmarks[:, :2]
        yield from ((pixels, five, Kind.LANDMARKED) for five in points)


def _from_pictures(
    folder: Path, detector: FaceFinder, min_score: float, limit: int, seed: int
) -> Iterator[tuple[Pixels, Floats, Kind]]:
    paths = pictures_below(folder)
    chosen = np.random.default_rng(seed).permutation(len(paths))[:limit]
    for index in track(chosen, description="detecting faces"):
        if (pixels := read_picture(paths[index])) is None:
            continue
        detections = [face for face in detector.detect([pixels])[0] if face.score >= SUSPECTED_SCORE]
        if len(detections) == 1 and detections[0].score >= min_score and detections[0].landmarks is not None:
            yield pixels, detections[0].landmarks[:, :2], Kind.LANDMARKED


def _shorter_side(face: LabelledFace) -> float:
    return float(np.min(face.box[2:] - face.box[:2]))
