"""Encodes pictures and observations for the HTTP interface between API and worker.

The format is MessagePack. Picture files are sent as they are; embeddings and landmarks are little-endian float32.
Neither side trusts the other: the worker decodes pictures of clients, and any process with the token can send a body.
"""

from collections.abc import Sequence
from typing import Any

import msgpack
import numpy as np
from pydantic import ValidationError

from service.errors import MalformedBody, RegistryError, error_class
from service.inference.engine import Detection, Face, FaceChoice, Floats, Observation, Picture
from service.inference.wire_documents import (
    DetectionFields,
    FaultFields,
    ObservationFields,
    PictureFields,
    picture_fields,
    result_fields,
)
from service.vision.sample import Quality

MEDIA_TYPE = "application/msgpack"
OBSERVE_PATH = "/v1/observe"
MODELS_HEADER = "x-models"
"""Request header with `VERSION` and the required models, separated by commas; a worker without them refuses."""
VERSION = "wire-5"
"""Version of the format in this module."""
MAX_PICTURES = 1024
"""Maximum number of pictures in a request, which is the maximum length of a list in it."""
MAX_ITEMS = 4096
"""Maximum number of results, detections or faces in a list of a response."""
MAX_LENGTH_ERROR = 0.01
"""Maximum deviation of an embedding's length from 1."""


def pack_images(images: Sequence[Picture]) -> bytes:
    return msgpack.packb([_pack_picture(image) for image in images])


def unpack_images(body: bytes) -> list[Picture]:
    """Raises MalformedBody if the body does not come from `pack_images`."""
    try:
        lists = _ListCounter(2 * MAX_PICTURES + 1)
        items = msgpack.unpackb(
            body, list_hook=lists.count, max_array_len=MAX_PICTURES, max_map_len=0, max_ext_len=0, strict_map_key=True
        )
        return [_picture_of(fields) for fields in picture_fields(items)]
    except ValidationError as error:
        problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = "/".join(str(part) for part in problem["loc"])
        raise MalformedBody(f"the body is not a list of pictures: {place}: {problem['msg']}") from None
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise MalformedBody(f"the body is not a list of pictures in MessagePack: {type(error).__name__}") from None


def pack_results(results: Sequence[Observation | RegistryError]) -> bytes:
    return msgpack.packb([_pack_result(result) for result in results])


def unpack_results(body: bytes) -> list[Observation | RegistryError]:
    """Raises ValueError if the body does not come from `pack_results`."""
    try:
        items = msgpack.unpackb(body, max_array_len=MAX_ITEMS, max_ext_len=0)
        return [_result_of(fields) for fields in result_fields(items)]
    except ValidationError:
        raise ValueError("the body is not a list of results") from None
    except (TypeError, msgpack.UnpackException) as error:
        raise ValueError(f"the body is not a list of results in MessagePack: {type(error).__name__}") from None


class _ListCounter:
    """Limits the lists of a body: an empty list of one byte takes 64 bytes of memory."""

    def __init__(self, maximum: int) -> None:
        self._remaining = maximum

    def count(self, items: list[Any]) -> list[Any]:
        """Raises ValueError if the body has too many lists."""
        self._remaining -= 1
        if self._remaining < 0:
            raise ValueError("the body has too many lists")
        return items


def _pack_picture(picture: Picture) -> PictureFields:
    return (
        picture.data,
        picture.choice,
        picture.box,
        picture.cropped,
        picture.model_id,
        picture.keep_crop,
        picture.background,
    )


def _picture_of(fields: PictureFields) -> Picture:
    picture = Picture(*fields)
    if picture.choice is FaceChoice.BOX and picture.box is None:
        raise ValueError("the choice of a face by box requires a box")
    return picture


def _pack_result(result: Observation | RegistryError) -> dict[str, Any]:
    if isinstance(result, RegistryError):
        return {
            "code": result.code,
            "detail": result.detail,
            "pointer": result.pointer,
            "extensions": result.extensions,
        }
    faces = [
        {
            "detection": _pack_detection(face.detection),
            "quality": _pack_quality(face.quality),
            "embedding": face.embedding.astype("<f4").tobytes(),
            "crop": face.crop,
        }
        for face in result.faces
    ]
    detections = [_pack_detection(detection) for detection in result.detections]
    size = result.width, result.height
    return {
        "size": size,
        "detections": detections,
        "faces": faces,
        "likely_cause": result.likely_cause,
        "truncated": result.truncated,
    }


def _result_of(fields: ObservationFields | FaultFields) -> Observation | RegistryError:
    if isinstance(fields, FaultFields):
        return error_class(fields.code)(fields.detail, pointer=fields.pointer, **fields.extensions)
    faces = [
        Face(
            _detection_of(face.detection),
            Quality(*face.quality),
            _embedding_of(face.embedding),
            face.crop,
            truncated=fields.truncated,
        )
        for face in fields.faces
    ]
    detections = [_detection_of(detection) for detection in fields.detections]
    return Observation(*fields.size, detections, faces, fields.likely_cause, fields.truncated)


def _pack_detection(detection: Detection) -> tuple[Any, ...]:
    landmarks = None if detection.landmarks is None else detection.landmarks.astype("<f4").tobytes()
    return (*detection.box, detection.score, landmarks, detection.manual)


def _detection_of(fields: DetectionFields) -> Detection:
    x_min, y_min, x_max, y_max, score, landmarks, manual = fields
    points = None if landmarks is None else _floats_of(landmarks).reshape(5, 3)
    return Detection((x_min, y_min, x_max, y_max), score, points, manual)


def _pack_quality(quality: Quality) -> tuple[float | None, ...]:
    return quality.face_px, quality.sharpness, quality.asymmetry, quality.brightness, quality.visible, quality.score


def _embedding_of(data: bytes) -> Floats:
    embedding = _floats_of(data)
    if not abs(float(np.linalg.norm(embedding.astype(np.float64))) - 1) <= MAX_LENGTH_ERROR:
        raise ValueError("an embedding is not normalised")
    return embedding


def _floats_of(data: bytes) -> Floats:
    """Raises ValueError if the bytes are not finite little-endian float32 numbers."""
    floats = np.frombuffer(data, "<f4").astype(np.float32)
    if not np.isfinite(floats).all():
        raise ValueError("a number is not finite")
    return floats
