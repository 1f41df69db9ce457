"""What a detector takes for faces, right and wrong: from these the refiner learns to tell one from the other."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.progress import track

from service.inference.engine import Detection, FaceFinder
from service.vision.geometry import area, iou
from service.vision.image import Pixels
from trainer.detector.evaluation import MATCH_IOU, pictures_of
from trainer.landmarks.faces import Faces, Kind, gather
from trainer.pictures import pictures_below, read_picture

Floats = npt.NDArray[np.float32]
SCORE_OF_A_FACE = 0.1
"""Below, a detection is too far off to serve, though it overlaps a face."""
APART = 0.1
"""Intersection with a known face, over the smaller of the two boxes, up to which a detection shows something else."""
WRONG_ONES = 6
"""Of a picture, the strongest."""


@dataclass(frozen=True)
class _Looked:
    """A picture as the detector is shown it, and the boxes in it of all that is or may be a face."""

    pixels: Pixels
    known: Floats


def proposals(data: Path, split: str, finder: FaceFinder, doubter: FaceFinder) -> Faces:
    """Detections of a split, as faces without known landmarks where a label says so, and as no faces.

    The pictures are looked at on their side and as negatives too, where detections that touch no face are all wrong.

    Args:
        finder: with a low score, so that it is wrong often.
        doubter: another detector; what it takes for a face may be one that nobody labelled, and teaches nothing.
    """
    return gather(_proposals(data, split, finder, doubter))


def mistakes(scenes: Path, finder: FaceFinder) -> Faces:
    """What a detector takes for faces in pictures that show none."""
    return gather(_mistakes(scenes, finder))


def _mistakes(scenes: Path, finder: FaceFinder) -> Iterator[tuple[Pixels, Floats, Kind]]:
    nobody = np.zeros((0, 4), np.float32)
    for path in track(pictures_below(scenes), description="looking at scenes"):
        if (pixels := read_picture(path)) is None:
            continue
        for shown in (pixels, np.ascontiguousarray(np.rot90(pixels)), 255 - pixels):
            found = finder.detect([shown])[0]
            yield from ((shown, points, Kind.OTHER) for points in _wrong(found, nobody))


def _proposals(
    data: Path, split: str, finder: FaceFinder, doubter: FaceFinder
) -> Iterator[tuple[Pixels, Floats, Kind]]:
    for picture in pictures_of(data, split):
        suspected = np.array([face.box for face in doubter.detect([picture.pixels])[0]], np.float32).reshape(-1, 4)
        upright = _Looked(picture.pixels, np.concatenate([picture.boxes, suspected]))
        found = finder.detect([picture.pixels])[0]
        yield from ((picture.pixels, points, Kind.FACE) for points in _right(found, picture.boxes))
        yield from ((picture.pixels, points, Kind.OTHER) for points in _wrong(found, upright.known))
        for look in (_on_its_side(upright), _negative(upright)):
            found = finder.detect([look.pixels])[0]
            yield from ((look.pixels, points, Kind.OTHER) for points in _wrong(found, look.known))


def _right(found: list[Detection], labelled: Floats) -> Iterator[Floats]:
    for face in found:
        if face.score < SCORE_OF_A_FACE or face.landmarks is None or not len(labelled):
            continue
        if float(iou(np.array(face.box, np.float32), labelled).max()) >= MATCH_IOU:
            yield face.landmarks[:, :2]


def _wrong(found: list[Detection], known: Floats) -> Iterator[Floats]:
    others = (face for face in found if face.landmarks is not None and _apart(np.array(face.box, np.float32), known))
    for face, _ in zip(others, range(WRONG_ONES), strict=False):
        assert face.landmarks is not None
        yield face.landmarks[:, :2]


def _apart(box: Floats, known: Floats) -> bool:
    low, high = np.maximum(box[:2], known[:, :2]), np.minimum(box[2:], known[:, 2:])
    common = area(np.concatenate([low, high], axis=1))
    smaller = np.maximum(np.minimum(area(box), area(known)), 1)
    return bool((common / smaller <= APART).all())


def _on_its_side(upright: _Looked) -> _Looked:
    """Turned to the left by a quarter: (x, y) comes to (y, width - x)."""
    width = upright.pixels.shape[1]
    x0, y0, x1, y1 = upright.known.T
    turned = np.stack([y0, width - x1, y1, width - x0], axis=1)
    return _Looked(np.ascontiguousarray(np.rot90(upright.pixels)), turned.astype(np.float32))


def _negative(upright: _Looked) -> _Looked:
    return _Looked(255 - upright.pixels, upright.known)
