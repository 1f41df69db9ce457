"""Detection metrics on pictures with boxes drawn by people: average precision, also by face size, and recall.

Faces whose box has a shorter side below `MIN_FACE_PX` are ignored: they count neither as missed nor as false alarms.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from service.inference.engine import Detection, FaceFinder
from service.vision.geometry import iou
from service.vision.image import ImageLimits, Pixels, decode
from trainer.detector.labels import read_labels
from trainer.progress import track

Floats = npt.NDArray[np.float32]
MIN_FACE_PX = 16
MATCH_IOU = 0.5
SIZE_BANDS = {
    "16-32 px": (16.0, 32.0),
    "32-64 px": (32.0, 64.0),
    "64-128 px": (64.0, 128.0),
    "128 px up": (128.0, np.inf),
}
"""Bands of the shorter side of a face's box: the lower bound is included, the upper one is not."""


@dataclass(frozen=True)
class LabelledPicture:
    """A picture of a split and the (N, 4) corners of its labelled faces in pixels."""

    path: Path
    pixels: Pixels
    boxes: Floats


@dataclass(frozen=True)
class PictureDetections:
    """The detections in a picture and its (N, 4) labelled boxes, without the pixels."""

    path: Path
    ground_truth: Floats
    detections: list[Detection]


@dataclass(frozen=True)
class DetectionMetrics:
    """Metrics at an intersection over union of 0.5.

    Attributes:
        faces: number of labelled faces.
        ap50: area under the interpolated precision-recall curve, 0 to 1.
        recall_at_precision_90: largest recall of a point of the curve with a precision of at least 0.9.
        recall, precision, scores: (N,) points of the curve, by falling score.
    """

    faces: int
    ap50: float
    recall_at_precision_90: float
    recall: Floats
    precision: Floats
    scores: Floats

    def at(self, score: float) -> tuple[float, float]:
        """Returns precision and recall of the detections with at least this score; (1, 0) if there are none."""
        count = int((self.scores >= score).sum())
        return (float(self.precision[count - 1]), float(self.recall[count - 1])) if count else (1.0, 0.0)

    def best_score(self) -> float:
        """Returns the minimum score that gives the highest F1, the harmonic mean of precision and recall."""
        if not self.scores.size:
            return 1.0
        f1 = 2 * self.precision * self.recall / np.maximum(self.precision + self.recall, 1e-9)
        return float(self.scores[int(np.argmax(f1))])


def detect_split(detector: FaceFinder, data: Path, split: str) -> list[PictureDetections]:
    """Runs a detector over a split of an Ultralytics data set.

    Raises:
        FileNotFoundError: the data set has no such split.
    """
    return [
        PictureDetections(picture.path, picture.boxes, detector.detect([picture.pixels])[0])
        for picture in labelled_pictures(data, split)
    ]


def labelled_pictures(data: Path, split: str) -> Iterator[LabelledPicture]:
    """Yields the pictures of a split with their boxes and shows a progress bar.

    Raises:
        FileNotFoundError: the data set has no such split.
    """
    folder = data / "images" / split
    if not folder.is_dir():
        splits = ", ".join(sorted(path.name for path in (data / "images").glob("*"))) or "none"
        raise FileNotFoundError(f"{data} has no split {split!r}; its splits are: {splits}")
    for path in track(sorted(path for path in folder.iterdir() if path.is_file()), description=f"pictures of {split}"):
        pixels = decode(path.read_bytes(), ImageLimits())
        faces = read_labels(data / "labels" / split / f"{path.stem}.txt", pixels.shape[1], pixels.shape[0])
        yield LabelledPicture(path, pixels, np.array([face.box for face in faces], np.float32).reshape(-1, 4))


def detection_metrics(
    results: list[PictureDetections], smallest: float = MIN_FACE_PX, largest: float = np.inf
) -> DetectionMetrics:
    """Compares detections with the faces whose shorter side lies in [smallest, largest) pixels.

    A detection of a labelled face outside this range is ignored, as is an unmatched detection outside it.
    """
    scores: list[float] = []
    hits: list[bool] = []
    faces = 0
    for picture in results:
        counted = _in_range(shorter_sides(picture.ground_truth), smallest, largest)
        faces += int(counted.sum())
        for detection, index in match(picture.detections, picture.ground_truth):
            if index is not None and not counted[index]:
                continue
            side = shorter_sides(np.array([detection.box], np.float32))
            if index is not None or bool(_in_range(side, smallest, largest)[0]):
                scores.append(detection.score)
                hits.append(index is not None)
    return _metrics(np.array(scores), np.array(hits, dtype=bool), faces)


def metrics_by_size(results: list[PictureDetections]) -> dict[str, DetectionMetrics]:
    """Returns the metrics of each band of `SIZE_BANDS`."""
    return {name: detection_metrics(results, low, high) for name, (low, high) in SIZE_BANDS.items()}


def match(detections: list[Detection], ground_truth: Floats) -> list[tuple[Detection, int | None]]:
    """Assigns detections to (N, 4) labelled boxes, greedily by falling score, as the COCO evaluation does.

    Each detection is assigned to the free box that it overlaps most, if their intersection over union is at least
    `MATCH_IOU`. Lin et al., "Microsoft COCO: Common objects in context", ECCV 2014.

    Returns:
        Every detection with the index of its box, or None if it matches no free box.
    """
    free = np.ones(len(ground_truth), dtype=bool)
    matches: list[tuple[Detection, int | None]] = []
    for detection in sorted(detections, key=lambda face: -face.score):
        box = np.array(detection.box, np.float32)
        overlaps = np.where(free, iou(box, ground_truth), 0) if len(ground_truth) else np.zeros(0)
        best = int(np.argmax(overlaps)) if len(ground_truth) else -1
        if best >= 0 and overlaps[best] >= MATCH_IOU:
            free[best] = False
            matches.append((detection, best))
        else:
            matches.append((detection, None))
    return matches


def shorter_sides(boxes: Floats) -> Floats:
    """Returns the (N,) shorter sides of (N, 4) corners, in pixels."""
    return np.minimum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])


def _in_range(sides: Floats, smallest: float, largest: float) -> npt.NDArray[np.bool_]:
    return (sides >= smallest) & (sides < largest)


def _metrics(scores: npt.NDArray[np.float64], hits: npt.NDArray[np.bool_], faces: int) -> DetectionMetrics:
    order = np.argsort(-scores, kind="stable")
    true_positives = np.cumsum(hits[order])
    recall = true_positives / max(faces, 1)
    precision = true_positives / np.arange(1, len(order) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    steps = np.diff(np.concatenate([[0.0], recall]))
    precise = recall[precision >= 0.9]
    return DetectionMetrics(
        faces,
        float((steps * envelope).sum()),
        float(precise.max()) if precise.size else 0.0,
        recall.astype(np.float32),
        precision.astype(np.float32),
        scores[order].astype(np.float32),
    )
