"""Faces to learn landmarks from: canvases of one size, each with its five points."""

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.progress import track

from service.inference.engine import FaceFinder
from service.vision.alignment import align_with_margin
from service.vision.image import ImageLimits, Pixels, decode
from trainer.detector.evaluation import match
from trainer.detector.labels import LabelledFace, read_labels
from trainer.pictures import pictures_below, read_picture

Floats = npt.NDArray[np.float32]
CANVAS = 160
MARGIN = 24.0
"""Of a canvas, around the crop of 112 pixels."""
SMALLEST_FACE = 20
"""Shorter side of a box in pixels; below, a label of a landmark is a guess."""
SUSPECTED = 0.3
"""Score from which on a second face in the picture may be one."""


class Kind(enum.IntEnum):
    """What a canvas shows: a face with known landmarks, a face whose points only made the canvas, or no face."""

    LANDMARKED = 0
    FACE = 1
    OTHER = 2


@dataclass(frozen=True)
class Faces:
    """(N, 160, 160, 3) pictures, (N, 5, 2) points in their pixels, and (N,) kinds."""

    pictures: npt.NDArray[np.uint8]
    landmarks: Floats
    kinds: npt.NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.pictures)

    def told(self) -> str:
        """How many of each kind, in words."""
        landmarked, faces, others = (int((self.kinds == kind).sum()) for kind in Kind)
        return f"{landmarked} faces with landmarks, {faces} without, {others} other things"


def labelled_faces(data: Path, split: str, finder: FaceFinder | None = None) -> Faces:
    """The faces with landmarks of a split of an Ultralytics pose data set.

    Args:
        finder: says anew where the landmarks of these faces are, wherever it sees them.
    """
    return gather(_from_labels(data, split, finder))


def found_faces(folder: Path, finder: FaceFinder, min_score: float, at_most: int, seed: int = 0) -> Faces:
    """Faces of pictures that show one each, with the finder's landmarks.

    Args:
        at_most: pictures that are looked at, drawn by chance.
    """
    return gather(_from_pictures(folder, finder, min_score, at_most, seed))


def join(parts: list[Faces]) -> Faces:
    """All of them as one."""
    return Faces(
        np.concatenate([part.pictures for part in parts]),
        np.concatenate([part.landmarks for part in parts]),
        np.concatenate([part.kinds for part in parts]),
    )


def _from_labels(data: Path, split: str, finder: FaceFinder | None) -> Iterator[tuple[Pixels, Floats, Kind]]:
    paths = sorted(path for path in (data / "images" / split).iterdir() if path.is_file())
    for path in track(paths, description=f"faces of {split}"):
        pixels = decode(path.read_bytes(), ImageLimits())
        faces = read_labels(data / "labels" / split / f"{path.stem}.txt", pixels.shape[1], pixels.shape[0])
        usable = [face for face in faces if face.landmarks[:, 2].all() and _side(face) >= SMALLEST_FACE]
        points = [face.landmarks[:, :2] for face in usable]
        if finder is not None and usable:
            boxes = np.array([face.box for face in usable], np.float32)
            for found, index in match(finder.detect([pixels])[0], boxes):
                if index is not None and found.landmarks is not None:
                    points[index] = found.landmarks[:, :2]
        yield from ((pixels, five, Kind.LANDMARKED) for five in points)


def _from_pictures(
    folder: Path, finder: FaceFinder, min_score: float, at_most: int, seed: int
) -> Iterator[tuple[Pixels, Floats, Kind]]:
    paths = pictures_below(folder)
    chosen = np.random.default_rng(seed).permutation(len(paths))[:at_most]
    for index in track(chosen, description="finding faces"):
        if (pixels := read_picture(paths[index])) is None:
            continue
        found = [face for face in finder.detect([pixels])[0] if face.score >= SUSPECTED]
        if len(found) == 1 and found[0].score >= min_score and found[0].landmarks is not None:
            yield pixels, found[0].landmarks[:, :2], Kind.LANDMARKED


def _side(face: LabelledFace) -> float:
    return float(np.min(face.box[2:] - face.box[:2]))


def gather(faces: Iterable[tuple[Pixels, Floats, Kind]]) -> Faces:
    """Canvases of pictures, made with five points in each."""
    pictures, landmarks, kinds = [], [], []
    for pixels, points, kind in faces:
        try:
            canvas, transform = align_with_margin(pixels, points, CANVAS, MARGIN)
        except ValueError:  # all points in one place
            continue
        pictures.append(canvas)
        landmarks.append(points @ transform[:, :2].T + transform[:, 2])
        kinds.append(kind)
    if not pictures:
        return Faces(np.zeros((0, CANVAS, CANVAS, 3), np.uint8), np.zeros((0, 5, 2), np.float32), np.zeros(0, np.uint8))
    return Faces(np.stack(pictures), np.stack(landmarks).astype(np.float32), np.array(kinds, np.uint8))
