"""Collects true and false detections of a detector. The refiner learns from them to verify faces."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from service.inference.engine import Detection, FaceFinder
from service.vision.geometry import area, iou
from service.vision.image import Pixels
from trainer.detector.evaluation import MATCH_IOU, labelled_pictures
from trainer.landmarks.faces import Faces, Kind, align_all
from trainer.pictures import pictures_below, read_picture
from trainer.progress import track

Floats = npt.NDArray[np.float32]
MIN_TRUE_SCORE = 0.1
"""Minimum score of a true detection that is used; weaker ones are too inaccurate, although they overlap a face."""
MAX_OVERLAP = 0.1
"""Maximum overlap of a false detection with every possible face: intersection divided by the smaller of both areas."""
MAX_FALSE_PER_PICTURE = 6
"""The false detections with the highest scores are used."""


@dataclass(frozen=True)
class _View:
    """A picture that the detector searches, and the (N, 4) boxes of all objects in it that are or may be faces."""

    pixels: Pixels
    possible_faces: Floats


def proposals(data: Path, split: str, detector: FaceFinder, second_detector: FaceFinder) -> Faces:
    """Collects the detections of a split: `Kind.FACE` where a label confirms them, `Kind.OTHER` where they are false.

    The pictures are also searched rotated by 90 degrees and as negatives, where every detection that overlaps no
    possible face is false.

    Args:
        detector: the detector with a low minimum score, so that it reports many false detections.
        second_detector: its detections may be faces that the labels lack; detections that overlap them are not used.

    Raises:
        FileNotFoundError: the data set has no such split.
    """
    return align_all(_proposals(data, split, detector, second_detector))


def false_detections(scenes: Path, detector: FaceFinder) -> Faces:
    """Collects the detections in pictures without faces, in three views of each picture."""
    return align_all(_false_detections(scenes, detector))


def _false_detections(scenes: Path, detector: FaceFinder) -> Iterator[tuple[Pixels, Floats, Kind]]:
    no_faces = np.zeros((0, 4), np.float32)
    for path in track(pictures_below(scenes), description="scenes without faces"):
        if (pixels := read_picture(path)) is None:
            continue
        for view in (pixels, np.ascontiguousarray(np.rot90(pixels)), 255 - pixels):
            detections = detector.detect([view])[0]
            yield from ((view, points, Kind.OTHER) for points in _false_points(detections, no_faces))


def _proposals(
    data: Path, split: str, detector: FaceFinder, second_detector: FaceFinder
) -> Iterator[tuple[Pixels, Floats, Kind]]:
    for picture in labelled_pictures(data, split):
        second = second_detector.detect([picture.pixels])[0]
        suspected = np.array([face.box for face in second], np.float32).reshape(-1, 4)
        upright = _View(picture.pixels, np.concatenate([picture.boxes, suspected]))
        detections = detector.detect([picture.pixels])[0]
        yield from ((picture.pixels, points, Kind.FACE) for points in _true_points(detections, picture.boxes))
        yield from (
            (picture.pixels, points, Kind.OTHER) for points in _false_points(detections, upright.possible_faces)
        )
        for view in (_rotated(upright), _negative(upright)):
            detections = detector.detect([view.pixels])[0]
            yield from ((view.pixels, points, Kind.OTHER) for points in _false_points(detections, view.possible_faces))


def _true_points(detections: list[Detection], labelled: Floats) -> Iterator[Floats]:
    """Yields the (5, 2) landmarks of the detections of labelled faces."""
    for face in detections:
        if face.score < MIN_TRUE_SCORE or face.landmarks is None or not len(labelled):
            continue
        if float(iou(np.array(face.box, np.float32), labelled).max()) >= MATCH_IOU:
            yield face.landmarks[:, :2]


def _false_points(detections: list[Detection], possible_faces: Floats) -> Iterator[Floats]:
    """Yields the (5, 2) landmarks of the first detections that overlap no possible face."""
    false = (
        face
        for face in detections
        if face.landmarks is not None and _is_apart(np.array(face.box, np.float32), possible_faces)
    )
    for face, _ in zip(false, range(MAX_FALSE_PER_PICTURE), strict=False):
        assert face.landmarks is not None
        yield face.landmarks[:, :2]


def _is_apart(box: Floats, boxes: Floats) -> bool:
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    intersection = area(np.concatenate([low, high], axis=1))
    smaller = np.maximum(np.minimum(area(box), area(boxes)), 1)
    return bool((intersection / smaller <= MAX_OVERLAP).all())


def _rotated(upright: _View) -> _View:
    """Rotates by 90 degrees counter-clockwise: (x, y) becomes (y, width - x)."""
    width = upright.pixels.shape[1]
    x0, y0, x1, y1 = upright.possible_faces.T
    boxes = np.stack([y0, width - x1, y1, width - x0], axis=1)
    return _View(np.ascontiguousarray(np.rot90(upright.pixels)), boxes.astype(np.float32))


def _negative(upright: _View) -> _View:
    return _View(255 - upright.pixels, upright.possible_faces)
