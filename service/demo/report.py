"""What the demo shows: a table of decisions, and the pictures with what was found in them."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

TILE_HEIGHT = 420
GREEN, RED = "[green]", "[red]"


@dataclass(frozen=True)
class Step:
    """One decision of the registry and what it should have been."""

    operation: str
    picture: str
    against: str
    score: float | None
    threshold: float | None
    decision: str
    right: bool
    milliseconds: float


@dataclass
class Report:
    steps: list[Step] = field(default_factory=list)

    @property
    def wrong(self) -> int:
        return sum(not step.right for step in self.steps)

    def show(self, console: Console, title: str) -> None:
        table = Table(title=title, title_justify="left", header_style="bold")
        for name, justify in (
            ("operation", "left"),
            ("picture", "left"),
            ("against", "left"),
            ("score", "right"),
            ("threshold", "right"),
            ("decision", "left"),
            ("ms", "right"),
        ):
            table.add_column(name, justify=justify)  # type: ignore[arg-type]
        for step in self.steps:
            mark = f"{GREEN}✓[/]" if step.right else f"{RED}✗[/]"
            table.add_row(
                step.operation,
                step.picture,
                step.against,
                "" if step.score is None else f"{step.score:.3f}",
                "" if step.threshold is None else f"{step.threshold:.3f}",
                f"{mark} {step.decision}",
                f"{step.milliseconds:.0f}",
            )
        console.print(table)


def annotate(picture: npt.NDArray[np.uint8], answer: dict[str, Any]) -> npt.NDArray[np.uint8]:
    """A BGR picture with the boxes and landmarks of a search's faces and the names of those who were found."""
    import supervision as sv

    faces = [result["face"] for result in answer["results"]]
    if not faces:
        return picture
    detections = sv.Detections(xyxy=np.array([face["box"] for face in faces], dtype=np.float32))
    labels = [_label(result["candidates"]) for result in answer["results"]]
    detections.class_id = np.array([0 if label != "stranger" else 1 for label in labels])
    palette = sv.ColorPalette.from_hex(["#2e7d32", "#c62828"])
    scale = picture.shape[0] / TILE_HEIGHT
    picture = sv.BoxAnnotator(palette, thickness=max(1, round(2 * scale))).annotate(picture.copy(), detections)
    points = sv.KeyPoints(xy=np.array([face["landmarks"] for face in faces], dtype=np.float32))
    picture = sv.VertexAnnotator(sv.Color.from_hex("#ffeb3b"), radius=max(1, round(2 * scale))).annotate(
        picture, points
    )
    return sv.LabelAnnotator(palette, text_scale=0.5 * scale, text_thickness=max(1, round(scale))).annotate(
        picture, detections, labels
    )


def write_sheet(pictures: list[npt.NDArray[np.uint8]], path: Path) -> Path:
    """Pictures side by side, as a JPEG."""
    tiles = [
        cv2.resize(picture, (round(picture.shape[1] * TILE_HEIGHT / picture.shape[0]), TILE_HEIGHT))
        for picture in pictures
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.hstack(tiles), [cv2.IMWRITE_JPEG_QUALITY, 92])
    return path.resolve()


def _label(candidates: list[dict[str, Any]]) -> str:
    if candidates and candidates[0]["match"]:
        return f"{candidates[0]['label']} {candidates[0]['score']:.2f}"
    return "stranger"
