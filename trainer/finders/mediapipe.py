"""The face landmarker and the face detector of MediaPipe (Google, Apache-2.0); users download their files."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from service.inference.engine import Detection, FaceFinder
from service.vision.image import Pixels
from trainer.configuration import ConfigError, missing_package

Floats = npt.NDArray[np.float32]


DEFAULT_MIN_SCORE = 0.5
DETECTOR_SUFFIX = ".tflite"


def open_mediapipe(model: Path, min_score: float | None) -> FaceFinder:
    """Opens a face detector (`.tflite`, short range or full range) or a face landmarker (`.task`).

    Raises:
        ConfigError: The package is not installed, or the file is neither.
    """
    score = DEFAULT_MIN_SCORE if min_score is None else min_score
    return MediaPipeDetector(model, score) if model.suffix == DETECTOR_SUFFIX else MediaPipe(model, score)


def _mediapipe() -> tuple[Any, Any, Any, Any]:
    """Returns the classes of pictures, of their format and of base options, and the module of the tasks."""
    try:
        import mediapipe
        from mediapipe.tasks.python import BaseOptions, vision
    except ImportError:
        raise missing_package("mediapipe", "mediapipe") from None
    return mediapipe.Image, mediapipe.ImageFormat.SRGB, BaseOptions, vision


class MediaPipeDetector:
    """BlazeFace (Bazarevsky et al. 2019): boxes without the landmarks of alignment.

    The file decides the range: `blaze_face_short_range.tflite` for faces within two metres, the full-range file for
    smaller faces. BlazeFace has one point for the mouth, so that its faces are aligned by their boxes (`--crop box`).

    Raises:
        ConfigError: The package is not installed, or the file is not a face detector.
    """

    def __init__(self, model: Path, min_score: float) -> None:
        self._image, self._format, base, vision = _mediapipe()
        options = vision.FaceDetectorOptions(
            base_options=base(model_asset_path=str(model)), min_detection_confidence=min_score
        )
        try:
            self._model: Any = vision.FaceDetector.create_from_options(options)
        except (RuntimeError, ValueError, OSError) as error:
            raise ConfigError(f"{model} is not a face detector's .tflite file: {error}") from None

    def detect(self, pictures: Sequence[Pixels]) -> list[list[Detection]]:
        return [self._detect_one(picture) for picture in pictures]

    def _detect_one(self, picture: Pixels) -> list[Detection]:
        result = self._model.detect(self._image(image_format=self._format, data=np.ascontiguousarray(picture)))
        faces = []
        for face in result.detections:
            box = face.bounding_box
            corners = (box.origin_x, box.origin_y, box.origin_x + box.width, box.origin_y + box.height)
            x0, y0, x1, y1 = (float(value) for value in corners)
            faces.append(Detection((x0, y0, x1, y1), float(face.categories[0].score), None))
        return sorted(faces, key=lambda found: -found.score)


class MediaPipe:
    """Locates 478 points in each face; iris centres, nose tip and mouth corners are the five landmarks of alignment.

    Raises:
        ConfigError: The package is not installed, or the file is not a face landmarker.
    """

    LEFT_IRIS, RIGHT_IRIS = slice(468, 473), slice(473, 478)
    NOSE, LEFT_CORNER, RIGHT_CORNER = 1, 61, 291
    MAX_FACES = 20

    def __init__(self, model: Path, min_score: float = DEFAULT_MIN_SCORE) -> None:
        self._image, self._format, base, vision = _mediapipe()
        options = vision.FaceLandmarkerOptions(
            base_options=base(model_asset_path=str(model)),
            num_faces=self.MAX_FACES,
            min_face_detection_confidence=min_score,
            min_face_presence_confidence=min_score,
        )
        try:
            self._model: Any = vision.FaceLandmarker.create_from_options(options)
        except (RuntimeError, ValueError, OSError) as error:
            raise ConfigError(f"{model} is not a face landmarker's .task file: {error}") from None

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError, TypeError):  # the interpreter may be shutting down
            self._model.close()

    def detect(self, pictures: Sequence[Pixels]) -> list[list[Detection]]:
        return [[self._detection(points) for points in self.points(picture)] for picture in pictures]

    def points(self, picture: Pixels) -> list[Floats]:
        """Returns the (478, 2) points of each face, in pixels."""
        size = np.array(picture.shape[1::-1], np.float32)
        result = self._model.detect(self._image(image_format=self._format, data=np.ascontiguousarray(picture)))
        return [np.array([(point.x, point.y) for point in face], np.float32) * size for face in result.face_landmarks]

    def five(self, points: Floats) -> Floats:
        """Returns eyes, nose tip and mouth corners (5, 2) of (478, 2) points."""
        irises = [points[self.LEFT_IRIS].mean(axis=0), points[self.RIGHT_IRIS].mean(axis=0)]
        return np.stack([*irises, *points[[self.NOSE, self.LEFT_CORNER, self.RIGHT_CORNER]]])

    def _detection(self, points: Floats) -> Detection:
        (x0, y0), (x1, y1) = points.min(axis=0), points.max(axis=0)
        box = (float(x0), float(y0), float(x1), float(y1))
        return Detection(box, 1.0, np.column_stack([self.five(points), np.ones(5)]).astype(np.float32))
