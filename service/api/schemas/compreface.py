"""Documents of CompreFace's REST API, as its clients send and expect them.

Source: https://github.com/exadel-inc/CompreFace/blob/master/docs/Rest-API-description.md
"""

import uuid
from collections.abc import Callable, Sequence

from pydantic import BaseModel, ConfigDict, Field

from service.api.schemas.fields import ImageBytes
from service.inference.engine import Detection, Face
from service.recognition.identification import Identification
from service.recognition.person_fields import Name

MAX_IDS = 1_000


class _Sent(BaseModel):
    """Base of request documents. CompreFace ignores unknown fields."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class SubjectRequest(_Sent):
    subject: Name


class FileRequest(_Sent):
    file: ImageBytes


class PairRequest(_Sent):
    source_image: ImageBytes
    target_image: ImageBytes


class BoxView(BaseModel):
    probability: float
    x_min: int
    y_min: int
    x_max: int
    y_max: int


class SubjectSimilarity(BaseModel):
    subject: str
    similarity: float


class RecognisedFace(BaseModel):
    box: BoxView
    subjects: list[SubjectSimilarity]
    landmarks: list[tuple[int, int]] | None = Field(None, exclude_if=lambda value: value is None)


class RecogniseResponse(BaseModel):
    result: list[RecognisedFace]


class ComparedFace(BaseModel):
    box: BoxView
    similarity: float


class TemplateVerification(BaseModel):
    result: list[ComparedFace]


class SourceFace(BaseModel):
    box: BoxView


class PairResult(BaseModel):
    source_image_face: SourceFace
    face_matches: list[ComparedFace]


class PairResponse(BaseModel):
    result: list[PairResult]


class FaceView(BaseModel):
    image_id: uuid.UUID
    subject: str


class FacesPage(BaseModel):
    faces: list[FaceView]
    page_number: int
    page_size: int
    total_pages: int
    total_elements: int


def box_view(detection: Detection) -> BoxView:
    x_min, y_min, x_max, y_max = (round(value) for value in detection.box)
    return BoxView(probability=round(detection.score, 5), x_min=x_min, y_min=y_min, x_max=x_max, y_max=y_max)


def recognise_response(
    found: Identification, similarity: Callable[[float], float], limit: int, with_landmarks: bool
) -> RecogniseResponse:
    """Returns the largest faces first.

    A face of insufficient quality has no subjects: its scores say little.
    """
    ordered = sorted(found.matches, key=lambda matches: -_area(matches.faces[0].detection))
    results = []
    for matches in ordered[: limit or None]:
        detection = matches.faces[0].detection
        candidates = matches.result.candidates if matches.is_decided else []
        results.append(
            RecognisedFace(
                box=box_view(detection),
                subjects=[
                    SubjectSimilarity(subject=candidate.external_id, similarity=similarity(candidate.score))
                    for candidate in candidates
                    if not candidate.overruled
                ],
                landmarks=_landmarks(detection) if with_landmarks else None,
            )
        )
    return RecogniseResponse(result=results)


def compared_faces(faces: Sequence[Face], similarities: Sequence[float], limit: int) -> list[ComparedFace]:
    """Returns the largest faces first."""
    pairs = sorted(zip(faces, similarities, strict=True), key=lambda pair: -_area(pair[0].detection))
    return [ComparedFace(box=box_view(face.detection), similarity=value) for face, value in pairs[: limit or None]]


def _area(detection: Detection) -> float:
    x_min, y_min, x_max, y_max = detection.box
    return (x_max - x_min) * (y_max - y_min)


def _landmarks(detection: Detection) -> list[tuple[int, int]] | None:
    points = detection.landmarks
    return None if points is None else [(round(float(x)), round(float(y))) for x, y, _ in points]
