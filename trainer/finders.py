"""Face detectors by their names, to prepare pictures with: ours, OpenCV's, and two that are installed when wanted."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import service
from service.inference.bundle import MANIFEST, file_sha256
from service.inference.detector import YoloFaceDetector
from service.inference.engine import Detection, FaceFinder
from service.inference.graph import RuntimeOptions
from service.vision.image import Pixels
from trainer.configuration import ConfigError
from trainer.detector.finders import YUNET_MIN_SCORE, YuNet

BUNDLE = Path(service.__file__).parent / "bundles" / "detector"
HOW = "`bash tools/extras.sh python` installs it beside our torch and OpenCV"
MTCNN_MIN_SCORE = 0.9
SMALLEST_PX = 20
"""Side of the smallest picture that MTCNN's pyramid has a level for."""


class FinderName(StrEnum):
    YOLO = "yolo"
    """Our bundle, or any bundle of ours."""
    YUNET = "yunet"
    MTCNN = "mtcnn"
    MEDIAPIPE = "mediapipe"


@dataclass(frozen=True)
class Finder:
    """A detector that can be opened in any process. `path`: its bundle or model file; MTCNN brings its own."""

    name: FinderName
    path: Path | None

    def __post_init__(self) -> None:
        if self.name in {FinderName.YUNET, FinderName.MEDIAPIPE} and self.path is None:
            raise ConfigError(f"{self.name} needs its model file: name it with --model-file")
        if self.path is not None and not self.path.exists():
            raise ConfigError(f"{self.path}: no such model")

    def __call__(self) -> FaceFinder:
        """Open it; one thread, since several processes work at once.

        Raises:
            ConfigError: its package is not installed.
        """
        if self.name is FinderName.YOLO:
            return YoloFaceDetector(self.path or BUNDLE, RuntimeOptions(threads=1))
        if self.name is FinderName.MTCNN:
            return Mtcnn()
        assert self.path is not None
        if self.name is FinderName.MEDIAPIPE:
            return MediaPipe(self.path)
        try:
            return YuNet(self.path, YUNET_MIN_SCORE)
        except cv2.error as error:
            raise ConfigError(f"{self.path} is not YuNet's model: {error}") from None

    @property
    def described(self) -> str:
        """Its name and a hash of what it runs, so that a preparation with another one is known to be another."""
        path = (self.path or BUNDLE) if self.name is FinderName.YOLO else self.path
        if path is None:
            return str(self.name)
        return f"{self.name} {file_sha256(path / MANIFEST if path.is_dir() else path)}"


class Mtcnn:
    """MTCNN of facenet-pytorch (Zhang et al. 2016; Tim Esler, MIT), with its own weights.

    Installed by tools/extras.sh: with its dependencies it would bring an old torch.
    """

    def __init__(self, min_score: float = MTCNN_MIN_SCORE) -> None:
        try:
            from facenet_pytorch import MTCNN
        except ImportError:
            raise ConfigError(
                "MTCNN is facenet-pytorch's: `bash tools/extras.sh python` installs it beside our torch"
            ) from None
        self._model: Any = MTCNN(keep_all=True, device="cpu", min_face_size=SMALLEST_PX)
        self._min_score = min_score

    def detect(self, pictures: Sequence[Pixels]) -> list[list[Detection]]:
        return [self._one(picture) for picture in pictures]

    def _one(self, picture: Pixels) -> list[Detection]:
        boxes = scores = points = None
        if min(picture.shape[:2]) >= SMALLEST_PX:
            boxes, scores, points = self._model.detect(picture, landmarks=True)
        if boxes is None or scores is None or points is None:
            return []
        found = []
        for box, score, five in zip(boxes, scores, points, strict=True):
            if float(score) >= self._min_score:
                sure = np.column_stack([np.asarray(five, np.float32), np.ones(5, np.float32)])
                found.append(Detection(tuple(float(value) for value in box), float(score), sure))  # type: ignore[arg-type]
        return sorted(found, key=lambda face: -face.score)


class MediaPipe:
    """MediaPipe's face landmarker (Google, Apache-2.0), whose `.task` file its users download themselves.

    Of its 478 points the middle of the irises, the nose tip and the mouth corners are the five that alignment takes.
    """

    LEFT_IRIS, RIGHT_IRIS = slice(468, 473), slice(473, 478)
    NOSE, LEFT_CORNER, RIGHT_CORNER = 1, 61, 291
    MOST_FACES = 20

    def __init__(self, model: Path) -> None:
        try:
            import mediapipe
            from mediapipe.tasks.python import BaseOptions, vision
        except ImportError:
            raise ConfigError(
                "MediaPipe is an extra: `bash tools/extras.sh python` installs it without a second OpenCV"
            ) from None
        self._image, self._format = mediapipe.Image, mediapipe.ImageFormat.SRGB
        options = vision.FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_path=str(model)), num_faces=self.MOST_FACES
        )
        try:
            self._model: Any = vision.FaceLandmarker.create_from_options(options)
        except (RuntimeError, ValueError, OSError) as error:
            raise ConfigError(f"{model} is not a face landmarker's .task file: {error}") from None

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError, TypeError):  # the interpreter may be ending
            self._model.close()

    def detect(self, pictures: Sequence[Pixels]) -> list[list[Detection]]:
        return [self._one(picture) for picture in pictures]

    def points(self, picture: Pixels) -> list[np.ndarray[Any, np.dtype[np.float32]]]:
        """(478, 2) landmarks of each face."""
        size = np.array(picture.shape[1::-1], np.float32)
        found = self._model.detect(self._image(image_format=self._format, data=np.ascontiguousarray(picture)))
        return [np.array([(point.x, point.y) for point in face], np.float32) * size for face in found.face_landmarks]

    def five(self, points: "np.ndarray[Any, np.dtype[np.float32]]") -> "np.ndarray[Any, np.dtype[np.float32]]":
        """(5, 2) of (478, 2): eyes, nose, mouth corners."""
        irises = [points[self.LEFT_IRIS].mean(axis=0), points[self.RIGHT_IRIS].mean(axis=0)]
        return np.stack([*irises, *points[[self.NOSE, self.LEFT_CORNER, self.RIGHT_CORNER]]])

    def _one(self, picture: Pixels) -> list[Detection]:
        return [self._detection(points) for points in self.points(picture)]

    def _detection(self, points: "np.ndarray[Any, np.dtype[np.float32]]") -> Detection:
        five = self.five(points)
        (x0, y0), (x1, y1) = points.min(axis=0), points.max(axis=0)
        box = (float(x0), float(y0), float(x1), float(y1))
        return Detection(box, 1.0, np.column_stack([five, np.ones(5)]).astype(np.float32))
