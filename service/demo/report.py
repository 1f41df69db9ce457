"""Shows the results of the demo: a table of decisions, and pictures with the detected faces."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from service.demo.photos import Picture

TILE_HEIGHT = 420
STRANGER = "stranger"
GREEN, RED, YELLOW, WHITE = (50, 125, 46), (40, 40, 198), (59, 235, 255), (255, 255, 255)
"""BGR."""


@dataclass(frozen=True)
class Step:
    """One decision of the registry. `correct`: it is the expected one."""

    operation: str
    picture: str
    against: str
    score: float | None
    threshold: float | None
    decision: str
    correct: bool
    milliseconds: float


@dataclass
class Report:
    steps: list[Step] = field(default_factory=list)

    @property
    def wrong(self) -> int:
        return sum(not step.correct for step in self.steps)

    def show(self, console: Console, title: str) -> None:
        table = Table(title=title, title_justify="left", header_style="bold")
        for name in ("operation", "picture", "against"):
            table.add_column(name)
        table.add_column("score", justify="right")
        table.add_column("threshold", justify="right")
        table.add_column("decision")
        table.add_column("ms", justify="right")
        for step in self.steps:
            mark = "[green]✓[/]" if step.correct else "[red]✗[/]"
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


def annotate(picture: Picture, response: dict[str, Any]) -> Picture:
    """Returns a copy of a BGR picture with the boxes, landmarks and names of the faces in the response of a search."""
    picture = picture.copy()
    scale = picture.shape[0] / TILE_HEIGHT
    for result in response["results"]:
        label = _label(result["candidates"])
        _draw_face(picture, result["face"], label, RED if label == STRANGER else GREEN, scale)
    return picture


def write_sheet(pictures: list[Picture], path: Path) -> Path:
    """Writes the pictures side by side into a JPEG file and returns its absolute path."""
    tiles = [
        cv2.resize(picture, (round(picture.shape[1] * TILE_HEIGHT / picture.shape[0]), TILE_HEIGHT))
        for picture in pictures
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.hstack(tiles), [cv2.IMWRITE_JPEG_QUALITY, 92])
    return path.resolve()


def _draw_face(picture: Picture, face: dict[str, Any], label: str, colour: tuple[int, int, int], scale: float) -> None:
    """Draws into `picture`. `scale`: pixels of the picture per pixel of the sheet."""
    line, dot, size = max(1, round(2 * scale)), max(1, round(2 * scale)), 0.5 * scale
    left, top, right, bottom = (round(value) for value in face["box"])
    cv2.rectangle(picture, (left, top), (right, bottom), colour, line)
    for x, y in face["landmarks"]:
        cv2.circle(picture, (round(x), round(y)), dot, YELLOW, cv2.FILLED)
    font, thickness = cv2.FONT_HERSHEY_SIMPLEX, max(1, round(scale))
    (width, height), _ = cv2.getTextSize(label, font, size, thickness)
    margin = round(6 * scale)
    base = max(top - margin, height + margin)  # a face at the upper edge has its label inside the picture
    cv2.rectangle(
        picture, (left, base - height - margin), (left + width + 2 * margin, base + margin), colour, cv2.FILLED
    )
    cv2.putText(picture, label, (left + margin, base), font, size, WHITE, thickness, cv2.LINE_AA)


def _label(candidates: list[dict[str, Any]]) -> str:
    if candidates and candidates[0]["match"]:
        return f"{candidates[0]['label']} {candidates[0]['score']:.2f}"
    return STRANGER
