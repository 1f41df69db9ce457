"""Documents of detected faces."""

import base64
from typing import Literal

import numpy as np
from pydantic import BaseModel, Field

from service.api.schemas.fields import BoxCorners
from service.inference.engine import Detection, Face


class FaceView(BaseModel):
    box: BoxCorners
    detection_score: float
    landmarks: list[tuple[float, float]] | None = Field(
        description="eyes, nose tip and mouth corners, left before right, in pixels of the upright picture"
    )
    quality: float | None = Field(
        None, description="0 to 1: share of the model's reference faces that are harder to recognise"
    )
    cut_off: bool = Field(False, description="the edge of the picture cuts the face off")
    manual: bool = Field(False, description="the client sent this box, and the detector found no face there")
    warnings: list[Literal["picture_truncated"]] = Field(
        [], description="`picture_truncated`: the file ends before its last rows, which do not show the face"
    )


def detection_view(detection: Detection, quality: float | None = None, cut_off: bool = False) -> FaceView:
    landmarks = detection.landmarks
    return FaceView(
        box=tuple(round(value, 1) for value in detection.box),
        detection_score=round(detection.score, 4),
        landmarks=None if landmarks is None else [(round(float(x), 1), round(float(y), 1)) for x, y, _ in landmarks],
        quality=quality,
        cut_off=cut_off,
        manual=detection.manual,
    )


def face_view(face: Face) -> FaceView | None:
    """Returns the document of a face; None for a supplied embedding, which has no picture."""
    return None if face.supplied else observed_face_view(face)


def observed_face_view(face: Face) -> FaceView:
    score = face.quality.score
    view = detection_view(face.detection, None if score is None else round(score, 4), face.quality.is_cut_off)
    view.warnings = ["picture_truncated"] if face.truncated else []
    return view


def embedding_text(vector: object) -> str:
    """Returns an embedding as little-endian float32 in Base64."""
    return base64.b64encode(np.asarray(vector, "<f4").tobytes()).decode()
