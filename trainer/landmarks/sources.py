"""Collects and caches the refiner's faces: from labelled pictures, aligned crops and the detections of a detector."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy.typing as npt

from service.inference.bundle import file_sha256, read_detector
from service.inference.detector import YoloFaceDetector
from service.inference.engine import Detection
from service.inference.graph import RuntimeOptions
from service.vision.image import Pixels
from trainer.cache import cached_arrays, content_key, folder_key
from trainer.detector.median_landmarks import MedianLandmarkDetector
from trainer.finders import YUNET_MIN_SCORE, YuNet
from trainer.landmarks.faces import Faces, detected_faces, join, labelled_faces
from trainer.landmarks.proposals import false_detections, proposals

CROP_MIN_SCORE = 0.85
"""Minimum score of YuNet for a face of the folder of crops."""
SUSPECTED_SCORE = 0.2
"""Minimum score of YuNet with which something may be a face that the labels lack."""
PROPOSAL_SCORE = 0.02
"""Minimum score of the detector for the detections that the refiner learns from."""


@dataclass(frozen=True)
class Sources:
    """The sources of a run's training data.

    Collecting the faces takes a quarter of an hour, so each part is cached. Its key is computed from the files of the
    folder, the detector's graph and YuNet's file.

    Attributes:
        cache: folder of collected faces.
        data: data set in Ultralytics' pose format with the splits `train` and `val`.
        bundle: detector whose detections are used.
        yunet: ONNX file of YuNet, which labels the landmarks.
        crops: folder of pictures that show one face each, or None.
        limit: number of pictures drawn at random from `crops`.
        scenes: folder of pictures without faces, or None.
    """

    cache: Path
    data: Path
    bundle: Path
    yunet: Path
    crops: Path | None = None
    limit: int = 12_000
    scenes: Path | None = None

    def training_faces(self) -> Faces:
        parts = [self._split("train")]
        if (crops := self.crops) is not None:
            detector = MedianLandmarkDetector(YuNet(self.yunet, YUNET_MIN_SCORE / 2))
            collect = partial(detected_faces, crops, detector, CROP_MIN_SCORE, self.limit)
            parts.append(self._cached("crops", f"{folder_key(crops)} {self.limit}", collect))
        if (scenes := self.scenes) is not None:
            collect = partial(false_detections, scenes, self._first_stage())
            parts.append(self._cached("scenes", folder_key(scenes), collect))
        return join(parts)

    def validation_faces(self) -> Faces:
        return self._split("val")

    def _split(self, split: str) -> Faces:
        def collect() -> Faces:
            augmented = MedianLandmarkDetector(YuNet(self.yunet, SUSPECTED_SCORE))
            labelled = labelled_faces(self.data, split, augmented)
            proposed = proposals(self.data, split, self._first_stage(), YuNet(self.yunet, SUSPECTED_SCORE))
            return join([labelled, proposed])

        return self._cached(split, folder_key(self.data), collect)

    def _first_stage(self) -> "FirstStage":
        return FirstStage(YoloFaceDetector(self.bundle, RuntimeOptions(precision="auto")), PROPOSAL_SCORE)

    def _cached(self, name: str, source: str, collect: Callable[[], Faces]) -> Faces:
        # The key contains the graph of the first stage only: the refiner of the bundle does not change the proposals.
        detector = read_detector(self.bundle)
        key = content_key(name, source, detector.files[detector.graph], file_sha256(self.yunet))
        arrays = cached_arrays(self.cache / f"{name}-{key}.npz", lambda: _arrays(collect()))
        return Faces(arrays["pictures"], arrays["landmarks"], arrays["kinds"])


@dataclass(frozen=True)
class FirstStage:
    """The detector of a bundle without landmark refinement and face verification: the input of the refiner."""

    detector: YoloFaceDetector
    min_score: float

    def detect(self, pictures: Sequence[Pixels]) -> list[list[Detection]]:
        return self.detector.propose(pictures, self.min_score)


def _arrays(faces: Faces) -> Mapping[str, npt.NDArray[Any]]:
    return {"pictures": faces.pictures, "landmarks": faces.landmarks, "kinds": faces.kinds}
