"""Where the refiner's faces come from: labelled pictures, canvases, and what the detector takes for faces."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from service.inference.bundle import file_sha256, read_detector
from service.inference.detector import YoloFaceDetector
from service.inference.engine import Detection
from service.inference.graph import RuntimeOptions
from service.vision.image import Pixels
from trainer.detector.finders import YUNET_MIN_SCORE, YuNet
from trainer.detector.steadying import Steadied
from trainer.landmarks.faces import Faces, found_faces, join, labelled_faces
from trainer.landmarks.proposals import mistakes, proposals

SURE = 0.85
"""YuNet's score from which on a canvas is taken."""
SUSPECTED = 0.2
"""YuNet's score from which on something may be a face that nobody labelled."""
PROPOSED = 0.02
"""The detector's score from which on its mistakes are learned from."""


@dataclass(frozen=True)
class Sources:
    """Where faces are gathered from.

    Each part is kept in a folder by what it was made of, since finding all of them takes a quarter of an hour.

    Attributes:
        data: an Ultralytics pose data set with `train` and `val`.
        canvases: pictures of one face each.
        at_most: canvases that are looked at, drawn by chance.
        scenes: pictures without a face.
        bundle: the detector whose proposals are learned from.
    """

    kept: Path
    data: Path
    bundle: Path
    yunet: Path
    canvases: Path | None = None
    at_most: int = 12_000
    scenes: Path | None = None

    def to_learn_from(self) -> Faces:
        parts = [self._pictures("train")]
        if (canvases := self.canvases) is not None:
            finder = Steadied(YuNet(self.yunet, YUNET_MIN_SCORE / 2))
            make = partial(found_faces, canvases, finder, SURE, self.at_most)
            parts.append(self._part(f"canvases {canvases.resolve()} {self.at_most}", make))
        if (scenes := self.scenes) is not None:
            parts.append(self._part(f"scenes {scenes.resolve()}", partial(mistakes, scenes, self._proposing())))
        return join(parts)

    def to_choose_by(self) -> Faces:
        return self._pictures("val")

    def _pictures(self, split: str) -> Faces:
        def make() -> Faces:
            labelled = labelled_faces(self.data, split, Steadied(YuNet(self.yunet, SUSPECTED)))
            proposed = proposals(self.data, split, self._proposing(), YuNet(self.yunet, SUSPECTED))
            return join([labelled, proposed])

        return self._part(f"{split} {self.data.resolve()}", make)

    def _proposing(self) -> "Proposing":
        return Proposing(YoloFaceDetector(self.bundle, RuntimeOptions(precision="auto")), PROPOSED)

    def _part(self, told: str, make: Callable[[], Faces]) -> Faces:
        detector = read_detector(self.bundle)  # by its first look: another refiner beside it changes no proposal
        models = f"{detector.files[detector.graph]} {file_sha256(self.yunet)}"
        name = hashlib.sha256(f"{told} {models}".encode()).hexdigest()[:12]
        return _kept(self.kept / f"{told.split()[0]}-{name}.npz", make)


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
