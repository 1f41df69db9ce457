"""Detection figures on pictures with human boxes: average precision, recall, landmark error.

A face counts from `MIN_FACE_PX` on (shorter side of its box); smaller ones are neither missed nor wrong when found.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt
from rich.progress import track

from service.inference.engine import Detection
from service.vision.geometry import iou
from service.vision.image import ImageLimits, Pixels, decode

Floats = npt.NDArray[np.float32]
MIN_FACE_PX = 16
MATCH_IOU = 0.5


class FaceFinder(Protocol):
    def detect(self, pictures: Sequence[Pixels]) -> list[list[Detection]]: ...


@dataclass(frozen=True)
class DetectionFigures:
    """`ap50`: area under the interpolated precision-recall curve at IoU 0.5."""

    faces: int
    ap50: float
    recall_at_precision_90: float
    recall: Floats
    precision: Floats


class YuNet:
    """OpenCV's YuNet, for comparison."""

    def __init__(self, path: Path, min_score: float = 0.02) -> None:
        self._detector = cv2.FaceDetectorYN.create(str(path), "", (320, 320), min_score, 0.45, 5000)

    def detect(self, pictures: Sequence[Pixels]) -> list[list[Detection]]:
        return [self._one(picture) for picture in pictures]

    def _one(self, picture: Pixels) -> list[Detection]:
        self._detector.setInputSize((picture.shape[1], picture.shape[0]))
        _, rows = self._detector.detect(np.ascontiguousarray(picture[..., ::-1]))
        found = []
        for row in rows if rows is not None else []:
            x, y, width, height = (float(value) for value in row[:4])
            points = np.concatenate([row[4:14].reshape(5, 2), np.ones((5, 1))], axis=1).astype(np.float32)
            found.append(Detection((x, y, x + width, y + height), float(row[14]), points))
        return found


def evaluate(finder: FaceFinder, data: Path, split: str) -> DetectionFigures:
    """Compare what a detector finds with the boxes of a split of an Ultralytics data set."""
    scores: list[float] = []
    hits: list[bool] = []
    faces = 0
    pictures = sorted(path for path in (data / "images" / split).iterdir() if path.is_file())
    for path in track(pictures, description=f"finding faces in {split}"):
        pixels = decode(path.read_bytes(), ImageLimits())
        truth = read_boxes(data / "labels" / split / f"{path.stem}.txt", pixels.shape[1], pixels.shape[0])
        counted = np.minimum(truth[:, 2] - truth[:, 0], truth[:, 3] - truth[:, 1]) >= MIN_FACE_PX
        faces += int(counted.sum())
        for score, hit in _match(finder.detect([pixels])[0], truth, counted):
            scores.append(score)
            hits.append(hit)
    return _figures(np.array(scores), np.array(hits, dtype=bool), faces)


def read_boxes(path: Path, width: int, height: int) -> Floats:
    """(N, 4) corners in pixels from a YOLO label file; none if there is no file."""
    rows = [line.split()[1:5] for line in path.read_text().splitlines() if line.strip()] if path.exists() else []
    values = np.array(rows, np.float32).reshape(-1, 4) * np.array([width, height, width, height], np.float32)
    return np.concatenate([values[:, :2] - values[:, 2:] / 2, values[:, :2] + values[:, 2:] / 2], axis=1)


def _match(found: list[Detection], truth: Floats, counted: npt.NDArray[np.bool_]) -> list[tuple[float, bool]]:
    """Strongest first, each detection takes the free face that it overlaps most; uncounted faces take theirs away."""
    free = np.ones(len(truth), dtype=bool)
    outcomes: list[tuple[float, bool]] = []
    for detection in sorted(found, key=lambda face: -face.score):
        box = np.array(detection.box, np.float32)
        overlaps = np.where(free, iou(box, truth), 0) if len(truth) else np.zeros(0)
        best = int(np.argmax(overlaps)) if len(truth) else -1
        if best >= 0 and overlaps[best] >= MATCH_IOU:
            free[best] = False
            if counted[best]:
                outcomes.append((detection.score, True))
        elif min(box[2] - box[0], box[3] - box[1]) >= MIN_FACE_PX:
            outcomes.append((detection.score, False))
    return outcomes


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
    )


def plot(figures: dict[str, DetectionFigures], path: Path) -> None:
    """Precision-recall curves side by side."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 5))
    for name, values in figures.items():
        axes.plot(values.recall, values.precision, label=f"{name} (AP50 {values.ap50:.3f})")
    axes.set(
        xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02), title=f"faces of {MIN_FACE_PX} px or more"
    )
    axes.grid(alpha=0.3)
    axes.legend(loc="lower left")
    figure.savefig(path, dpi=120, bbox_inches="tight")
    pyplot.close(figure)
