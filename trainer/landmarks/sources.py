"""Where the refiner's faces come from: labelled pictures, canvases, and what the detector takes for faces."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from service.inference.detector import YoloFaceDetector
from service.inference.engine import Detection
from service.inference.graph import RuntimeOptions
from service.vision.image import Pixels
from trainer.detector.finders import YUNET_MIN_SCORE, YuNet
from trainer.detector.steadying import Steadied
from trainer.landmarks.faces import Faces, found_faces, join, labelled_faces
from trainer.landmarks.proposals import proposals

SURE = 0.85
"""YuNet's score from which on a canvas is taken."""
SUSPECTED = 0.2
"""YuNet's score from which on something may be a face that nobody labelled."""
PROPOSED = 0.02
"""The detector's score from which on its mistakes are learned from."""


def gathered(
    kept: Path, data: Path, canvases: Path | None, at_most: int, bundle: Path, yunet: Path
) -> tuple[Faces, Faces]:
    """Faces to learn from and to choose by. They are kept in a folder, since finding them takes a quarter of an hour.

    Args:
        at_most: canvases that are looked at, drawn by chance.
    """
    told = f"{data.resolve()} {canvases and canvases.resolve()} {at_most} {bundle.resolve()}"
    name = hashlib.sha256(told.encode()).hexdigest()[:12]

    def learned() -> Faces:
        parts = _pictures(data, "train", bundle, yunet)
        if canvases is not None:
            parts.append(found_faces(canvases, Steadied(YuNet(yunet, YUNET_MIN_SCORE / 2)), SURE, at_most))
        return join(parts)

    return (
        _kept(kept / f"faces-{name}.npz", learned),
        _kept(kept / f"held-out-{name}.npz", lambda: join(_pictures(data, "val", bundle, yunet))),
    )


def _pictures(data: Path, split: str, bundle: Path, yunet: Path) -> list[Faces]:
    detector = YoloFaceDetector(bundle, RuntimeOptions(precision="auto"))
    return [
        labelled_faces(data, split, Steadied(YuNet(yunet, SUSPECTED))),
        proposals(data, split, Proposing(detector, PROPOSED), YuNet(yunet, SUSPECTED)),
    ]


@dataclass(frozen=True)
class Proposing:
    """A detector's first look alone: what the refiner is shown in service."""

    detector: YoloFaceDetector
    min_score: float

    def detect(self, pictures: Sequence[Pixels]) -> list[list[Detection]]:
        return self.detector.propose(pictures, self.min_score)


def _kept(file: Path, make: Callable[[], Faces]) -> Faces:
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        faces = make()
        partial = file.with_suffix(".partial")
        with partial.open("wb") as opened:
            np.savez(opened, pictures=faces.pictures, landmarks=faces.landmarks, kinds=faces.kinds)
        partial.replace(file)
    with np.load(file) as stored:
        return Faces(stored["pictures"], stored["landmarks"], stored["kinds"])
