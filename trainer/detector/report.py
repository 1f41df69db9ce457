"""Measures detectors side by side on labelled splits and on pictures without faces, and reports the results."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from service.inference.engine import Detection, FaceFinder
from trainer.detector import plots, sheets
from trainer.detector.background import background_pictures
from trainer.detector.evaluation import (
    SIZE_BANDS,
    DetectionMetrics,
    PictureDetections,
    detection_metrics,
    labelled_pictures,
    metrics_by_size,
)
from trainer.detector.landmark_error import landmark_error
from trainer.progress import track
from trainer.sheets import save
from trainer.tables import table


@dataclass(frozen=True)
class DetectorUnderTest:
    """A detector and its operating score: the minimum score, 0 to 1, of a detection that counts."""

    detector: FaceFinder
    min_score: float


@dataclass(frozen=True)
class Reference:
    """The detector whose landmarks are the reference.

    Attributes:
        name: its name among the measured detectors.
        augmented: the same detector with test-time augmentation, without the landmarks of the unchanged picture.
    """

    name: str
    augmented: DetectorUnderTest


@dataclass(frozen=True)
class SplitReport:
    """Results of one detector on one split.

    Attributes:
        landmarks: median distance from the reference's landmarks, divided by the distance between the eyes; None for
            the reference itself.
        augmented_landmarks: the same distance from the reference with test-time augmentation. For the reference, it is
            the noise of its own landmarks.
        milliseconds: mean time of a detection.
        min_score: operating score.
    """

    metrics: DetectionMetrics
    by_size: dict[str, DetectionMetrics]
    landmarks: float | None
    augmented_landmarks: float | None
    milliseconds: float
    min_score: float


def measure(
    detectors: Mapping[str, DetectorUnderTest], data: Path, split: str, reference: Reference | None, output: Path
) -> dict[str, SplitReport]:
    """Runs every detector over a split; writes its curves and the sheets of missed faces and false alarms.

    Raises:
        FileNotFoundError: the data set has no such split.
    """
    results, augmented, seconds = _detect(detectors, data, split, reference)
    reports = {}
    for name, tested in detectors.items():
        error = augmented_error = None
        if reference is not None:
            augmented_error = _landmark_error(results[name], tested, augmented, reference.augmented)
            if name != reference.name:
                error = _landmark_error(results[name], tested, results[reference.name], detectors[reference.name])
        milliseconds = 1000 * seconds[name] / max(len(results[name]), 1)
        metrics, by_size = detection_metrics(results[name]), metrics_by_size(results[name])
        reports[name] = SplitReport(metrics, by_size, error, augmented_error, milliseconds, tested.min_score)
        save(sheets.missed_faces(results[name], tested.min_score), output / f"{split}-missed-{_slug(name)}.jpg")
        save(sheets.false_alarms(results[name], tested.min_score), output / f"{split}-false-{_slug(name)}.jpg")
    plots.precision_recall({name: report.metrics for name, report in reports.items()}, split, output / f"{split}.png")
    return reports


def false_alarms(detectors: Mapping[str, DetectorUnderTest]) -> dict[str, tuple[int, int]]:
    """Returns for each detector the number of detections in pictures without faces, and the number of pictures."""
    pictures = [pixels for _, pixels in background_pictures()]
    counts = dict.fromkeys(detectors, 0)
    for picture in track(pictures, description="pictures without faces"):
        for name, tested in detectors.items():
            counts[name] += len(_counting(tested.detector.detect([picture])[0], tested))
    return {name: (count, len(pictures)) for name, count in counts.items()}


def markdown(splits: Mapping[str, Mapping[str, SplitReport]], alarms: Mapping[str, tuple[int, int]]) -> str:
    """Formats the results as Markdown tables."""
    lines = ["# Face detectors", ""]
    for split, reports in splits.items():
        lines += _split_section(split, reports)
    lines += [
        "Landmarks: median distance from the reference's landmarks, divided by the distance between the eyes. "
        "Augmented: the same distance from the median of the reference's landmarks over mirrored, scaled and shifted "
        "views of the picture.",
        "",
    ]
    if alarms:
        rows = [[name, str(count), str(pictures)] for name, (count, pictures) in alarms.items()]
        lines += ["## Pictures without faces", "", table(["detector", "detections", "pictures"], rows), ""]
    return "\n".join(lines)


def as_json(splits: Mapping[str, Mapping[str, SplitReport]], alarms: Mapping[str, tuple[int, int]]) -> str:
    """Formats the results as JSON."""
    content = {split: {name: _plain(report) for name, report in reports.items()} for split, reports in splits.items()}
    plain = {name: {"boxes": boxes, "pictures": pictures} for name, (boxes, pictures) in alarms.items()}
    return json.dumps({"splits": content, "background": plain}, indent=2) + "\n"


def _detect(
    detectors: Mapping[str, DetectorUnderTest], data: Path, split: str, reference: Reference | None
) -> tuple[dict[str, list[PictureDetections]], list[PictureDetections], dict[str, float]]:
    """Returns the detections by detector, those of the augmented reference, and seconds by detector."""
    results: dict[str, list[PictureDetections]] = {name: [] for name in detectors}
    seconds = dict.fromkeys(detectors, 0.0)
    augmented: list[PictureDetections] = []
    for picture in labelled_pictures(data, split):
        for name, tested in detectors.items():
            started = time.perf_counter()
            detections = tested.detector.detect([picture.pixels])[0]
            seconds[name] += time.perf_counter() - started
            results[name].append(PictureDetections(picture.path, picture.boxes, detections))
        if reference is not None:
            detections = reference.augmented.detector.detect([picture.pixels])[0]
            augmented.append(PictureDetections(picture.path, picture.boxes, detections))
    return results, augmented, seconds


def _split_section(split: str, reports: Mapping[str, SplitReport]) -> list[str]:
    bands = (f"AP50 {size}" for size in SIZE_BANDS)
    head = ["detector", "faces", "AP50", "recall at precision .90", *bands, "landmarks", "augmented", "ms"]
    rows = [[name, *_cells(report)] for name, report in reports.items()]
    lines = [f"## {split}", "", table(head, rows), "", f"![precision and recall]({split}.png)", ""]
    for name in reports:
        missed, false = (f"{split}-{kind}-{_slug(name)}.jpg" for kind in ("missed", "false"))
        lines.append(f"{name}: {_operating_point(reports[name])} [Missed]({missed}), [false alarms]({false}).\n")
    return [*lines, ""]


def _landmark_error(
    results: Sequence[PictureDetections],
    tested: DetectorUnderTest,
    reference_results: Sequence[PictureDetections],
    reference: DetectorUnderTest,
) -> float | None:
    """Returns the median error, or None if the two have no face with landmarks in common."""
    pairs = zip(results, reference_results, strict=True)
    try:
        return landmark_error(
            (_counting(ours.detections, tested), _counting(theirs.detections, reference)) for ours, theirs in pairs
        ).median
    except ValueError:
        return None


def _counting(detections: Sequence[Detection], tested: DetectorUnderTest) -> list[Detection]:
    return [face for face in detections if face.score >= tested.min_score]


def _operating_point(report: SplitReport) -> str:
    precision, recall = report.metrics.at(report.min_score)
    return (
        f"precision {precision:.3f} and recall {recall:.3f} at the operating score {report.min_score:.2f}; "
        f"F1 is highest at {report.metrics.best_score():.2f}."
    )


def _cells(report: SplitReport) -> list[str]:
    sizes = [f"{part.ap50:.3f} ({part.faces})" if part.faces else "none" for part in report.by_size.values()]
    errors = (report.landmarks, report.augmented_landmarks)
    landmarks = ["" if error is None else f"{error:.3f}" for error in errors]
    overall = report.metrics
    return [
        str(overall.faces), f"{overall.ap50:.3f}", f"{overall.recall_at_precision_90:.3f}",
        *sizes, *landmarks, f"{report.milliseconds:.1f}",
    ]  # fmt: skip


def _plain(report: SplitReport) -> dict[str, Any]:
    return {
        "faces": report.metrics.faces,
        "ap50": round(report.metrics.ap50, 4),
        "recall_at_precision_90": round(report.metrics.recall_at_precision_90, 4),
        "largest_recall": round(float(np.max(report.metrics.recall, initial=0)), 4),
        "ap50_by_size": {size: round(part.ap50, 4) for size, part in report.by_size.items() if part.faces},
        "landmark_error": report.landmarks,
        "landmark_error_augmented": report.augmented_landmarks,
        "milliseconds": round(report.milliseconds, 2),
    }


def _slug(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name.lower()).strip("-")
