"""Detection figures on pictures with human boxes: average precision, also by face size, recall, what was missed.

A face counts from `MIN_FACE_PX` on (shorter side of its box); smaller ones are neither missed nor wrong when found.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.progress import track

from service.inference.engine import Detection, FaceFinder
from service.vision.geometry import iou
from service.vision.image import ImageLimits, Pixels, decode
from trainer.detector.labels import read_labels

Floats = npt.NDArray[np.float32]
MIN_FACE_PX = 16
MATCH_IOU = 0.5
SIZES = {"16-32 px": (16.0, 32.0), "32-64 px": (32.0, 64.0), "64-128 px": (64.0, 128.0), "128 px up": (128.0, np.inf)}
"""Bands of the shorter side of a face's box."""


@dataclass(frozen=True)
class Labelled:
    """A picture of a split and the corners of its faces, (N, 4)."""

    path: Path
    pixels: Pixels
    boxes: Floats


@dataclass(frozen=True)
class Seen:
    """What a detector found in a labelled picture; its pixels are not kept."""

    path: Path
    truth: Floats
    found: list[Detection]


@dataclass(frozen=True)
class DetectionFigures:
    """`ap50`: area under the interpolated precision-recall curve at IoU 0.5. `scores` fall along the curve."""

    faces: int
    ap50: float
    recall_at_precision_90: float
    recall: Floats
    precision: Floats
    scores: Floats

    def at(self, score: float) -> tuple[float, float]:
        """Precision and recall of the detections from this score on."""
        count = int((self.scores >= score).sum())
        return (float(self.precision[count - 1]), float(self.recall[count - 1])) if count else (1.0, 0.0)

    def best_score(self) -> float:
        """From which on precision and recall together (F1) are best."""
        if not self.scores.size:
            return 1.0
        f1 = 2 * self.precision * self.recall / np.maximum(self.precision + self.recall, 1e-9)
        return float(self.scores[int(np.argmax(f1))])


def look(finder: FaceFinder, data: Path, split: str) -> list[Seen]:
    """Run a detector over a split of an Ultralytics data set."""
    return [
        Seen(picture.path, picture.boxes, finder.detect([picture.pixels])[0]) for picture in pictures_of(data, split)
    ]


def pictures_of(data: Path, split: str) -> Iterator[Labelled]:
    """The pictures of a split with their boxes, one at a time and with a progress bar.

    Raises:
        FileNotFoundError: the data set has no such split.
    """
    folder = data / "images" / split
    if not folder.is_dir():
        have = ", ".join(sorted(path.name for path in (data / "images").glob("*"))) or "none"
        raise FileNotFoundError(f"{data} has no split {split!r}; it has: {have}")
    for path in track(sorted(path for path in folder.iterdir() if path.is_file()), description=f"looking at {split}"):
        pixels = decode(path.read_bytes(), ImageLimits())
        faces = read_labels(data / "labels" / split / f"{path.stem}.txt", pixels.shape[1], pixels.shape[0])
        yield Labelled(path, pixels, np.array([face.box for face in faces], np.float32).reshape(-1, 4))


def figures(seen: list[Seen], smallest: float = MIN_FACE_PX, largest: float = np.inf) -> DetectionFigures:
    """Compare what was found with the faces whose shorter side lies in [smallest, largest) pixels."""
    scores: list[float] = []
    hits: list[bool] = []
    faces = 0
    for picture in seen:
        counted = _within(shorter_sides(picture.truth), smallest, largest)
        faces += int(counted.sum())
        for detection, hit in match(picture.found, picture.truth):
            if hit is not None and not counted[hit]:
                continue
            side = shorter_sides(np.array([detection.box], np.float32))
            if hit is not None or bool(_within(side, smallest, largest)[0]):
                scores.append(detection.score)
                hits.append(hit is not None)
    return _figures(np.array(scores), np.array(hits, dtype=bool), faces)


def by_size(seen: list[Seen]) -> dict[str, DetectionFigures]:
    """Figures for each band of `SIZES`."""
    return {name: figures(seen, low, high) for name, (low, high) in SIZES.items()}


def match(found: list[Detection], truth: Floats) -> list[tuple[Detection, int | None]]:
    """Strongest first, each detection takes the free face that it overlaps most, or none."""
    free = np.ones(len(truth), dtype=bool)
    outcomes: list[tuple[Detection, int | None]] = []
    for detection in sorted(found, key=lambda face: -face.score):
        overlaps = np.where(free, iou(np.array(detection.box, np.float32), truth), 0) if len(truth) else np.zeros(0)
        best = int(np.argmax(overlaps)) if len(truth) else -1
        if best >= 0 and overlaps[best] >= MATCH_IOU:
            free[best] = False
            outcomes.append((detection, best))
        else:
            outcomes.append((detection, None))
    return outcomes


def shorter_sides(boxes: Floats) -> Floats:
    """Of (N, 4) corners, in pixels."""
    return np.minimum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])


def _within(sides: Floats, smallest: float, largest: float) -> npt.NDArray[np.bool_]:
    return (sides >= smallest) & (sides < largest)


def _figures(scores: npt.NDArray[np.float64], hits: npt.NDArray[np.bool_], faces: int) -> DetectionFigures:
    order = np.argsort(-scores, kind="stable")
    true = np.cumsum(hits[order])
    recall = true / max(faces, 1)
    precision = true / np.arange(1, len(order) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    steps = np.diff(np.concatenate([[0.0], recall]))
    precise = recall[precision >= 0.9]
    return DetectionFigures(
        faces,
        float((steps * envelope).sum()),
        float(precise.max()) if precise.size else 0.0,
        recall.astype(np.float32),
        precision.astype(np.float32),
        scores[order].astype(np.float32),
    )
