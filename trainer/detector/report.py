"""Everything that is measured about a detector, side by side with its peers: tables, curves and picture sheets."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from service.inference.engine import Detection, FaceFinder
from trainer.detector import plots, sheets
from trainer.detector.background import background
from trainer.detector.evaluation import SIZES, DetectionFigures, Seen, by_size, figures, pictures_of
from trainer.detector.landmark_error import landmark_error
from trainer.sheets import save
from trainer.tables import table


@dataclass(frozen=True)
class Contestant:
    """A detector that is measured, and the score from which on its faces count."""

    finder: FaceFinder
    min_score: float


@dataclass(frozen=True)
class Reference:
    """The contestant whose landmarks the others' are compared with, and the same detector with a steadier eye."""

    name: str
    steadied: Contestant


@dataclass(frozen=True)
class SplitReport:
    """One split seen by one detector.

    Attributes:
        landmarks: median distance from the reference's, None for the reference.
        steadied_landmarks: median distance from what the reference says in other looks at the same picture. For the
            reference itself this is what its landmarks are worth.
    """

    figures: DetectionFigures
    by_size: dict[str, DetectionFigures]
    landmarks: float | None
    steadied_landmarks: float | None
    milliseconds: float
    min_score: float


def measure(
    contestants: Mapping[str, Contestant], data: Path, split: str, reference: Reference | None, output: Path
) -> dict[str, SplitReport]:
    """Run every detector over a split; write its curves and the sheets of misses and false alarms."""
    seen: dict[str, list[Seen]] = {name: [] for name in contestants}
    spent = dict.fromkeys(contestants, 0.0)
    steadied: list[Seen] = []
    for picture in pictures_of(data, split):
        for name, contestant in contestants.items():
            began = time.perf_counter()
            found = contestant.finder.detect([picture.pixels])[0]
            spent[name] += time.perf_counter() - began
            seen[name].append(Seen(picture.path, picture.boxes, found))
        if reference is not None:
            found = reference.steadied.finder.detect([picture.pixels])[0]
            steadied.append(Seen(picture.path, picture.boxes, found))
    reports = {}
    for name, contestant in contestants.items():
        error = from_steadied = None
        if reference is not None:
            from_steadied = _landmarks(seen[name], contestant, steadied, reference.steadied)
            if name != reference.name:
                error = _landmarks(seen[name], contestant, seen[reference.name], contestants[reference.name])
        per_picture = 1000 * spent[name] / max(len(seen[name]), 1)
        reports[name] = SplitReport(
            figures(seen[name]), by_size(seen[name]), error, from_steadied, per_picture, contestant.min_score
        )
        save(sheets.misses(seen[name], contestant.min_score), output / f"{split}-missed-{_slug(name)}.jpg")
        save(sheets.false_alarms(seen[name], contestant.min_score), output / f"{split}-false-{_slug(name)}.jpg")
    plots.precision_recall({name: report.figures for name, report in reports.items()}, split, output / f"{split}.png")
    return reports


def false_alarms(contestants: Mapping[str, Contestant]) -> dict[str, tuple[int, int]]:
    """Boxes at the working score on pictures without a face, and how many pictures these are."""
    pictures = [pixels for _, pixels in background()]
    return {
        name: (sum(len(_counting(contestant.finder.detect([one])[0], contestant)) for one in pictures), len(pictures))
        for name, contestant in contestants.items()
    }


def markdown(splits: Mapping[str, Mapping[str, SplitReport]], alarms: Mapping[str, tuple[int, int]]) -> str:
    """The figures as tables."""
    lines = ["# Face detectors", ""]
    for split, reports in splits.items():
        head = [
            "detector",
            "faces",
            "AP50",
            "recall at precision .90",
            *(f"AP50 {size}" for size in SIZES),
            "landmarks",
            "from several looks",
            "ms",
        ]
        rows = [[name, *_cells(report)] for name, report in reports.items()]
        lines += [f"## {split}", "", table(head, rows), "", f"![precision and recall]({split}.png)", ""]
        for name in reports:
            missed, false = (f"{split}-{kind}-{_slug(name)}.jpg" for kind in ("missed", "false"))
            lines.append(f"{name}: {_working(reports[name])} [Missed]({missed}), [false alarms]({false}).\n")
        lines.append("")
    lines += [
        "Landmarks: median distance from the reference's, in parts of the distance between the eyes. From several "
        "looks: from the median of what the reference says when the picture is mirrored, scaled and moved a little.",
        "",
    ]
    if alarms:
        rows = [[name, str(count), str(pictures)] for name, (count, pictures) in alarms.items()]
        lines += ["## Without a face", "", table(["detector", "boxes", "pictures and tiles"], rows), ""]
    return "\n".join(lines)


def as_json(splits: Mapping[str, Mapping[str, SplitReport]], alarms: Mapping[str, tuple[int, int]]) -> str:
    """The same for programs."""
    content = {split: {name: _plain(report) for name, report in reports.items()} for split, reports in splits.items()}
    plain = {name: {"boxes": boxes, "pictures": pictures} for name, (boxes, pictures) in alarms.items()}
    return json.dumps({"splits": content, "background": plain}, indent=2) + "\n"


def _landmarks(
    seen: Sequence[Seen], contestant: Contestant, reference_seen: Sequence[Seen], reference: Contestant
) -> float | None:
    pairs = zip(seen, reference_seen, strict=True)
    try:
        return landmark_error(
            (_counting(one.found, contestant), _counting(other.found, reference)) for one, other in pairs
        ).median
    except ValueError:
        return None


def _counting(found: Sequence[Detection], contestant: Contestant) -> list[Detection]:
    return [face for face in found if face.score >= contestant.min_score]


def _working(report: SplitReport) -> str:
    precision, recall = report.figures.at(report.min_score)
    best = report.figures.best_score()
    return (
        f"precision {precision:.3f} and recall {recall:.3f} at its working score {report.min_score:.2f}; together they "
        f"are best at {best:.2f}."
    )


def _cells(report: SplitReport) -> list[str]:
    sizes = [f"{part.ap50:.3f} ({part.faces})" if part.faces else "none" for part in report.by_size.values()]
    errors = (report.landmarks, report.steadied_landmarks)
    landmarks = ["" if error is None else f"{error:.3f}" for error in errors]
    overall = report.figures
    return [
        str(overall.faces), f"{overall.ap50:.3f}", f"{overall.recall_at_precision_90:.3f}",
        *sizes, *landmarks, f"{report.milliseconds:.1f}",
    ]  # fmt: skip


def _plain(report: SplitReport) -> dict[str, Any]:
    return {
        "faces": report.figures.faces,
        "ap50": round(report.figures.ap50, 4),
        "recall_at_precision_90": round(report.figures.recall_at_precision_90, 4),
        "largest_recall": round(float(np.max(report.figures.recall, initial=0)), 4),
        "ap50_by_size": {size: round(part.ap50, 4) for size, part in report.by_size.items() if part.faces},
        "landmark_error": report.landmarks,
        "landmark_error_from_several_looks": report.steadied_landmarks,
        "milliseconds": round(report.milliseconds, 2),
    }


def _slug(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name.lower()).strip("-")
