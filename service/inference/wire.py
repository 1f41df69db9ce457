"""Encodes pictures and observations for the HTTP interface between API and worker.

The format is MessagePack. Picture files are sent as they are; embeddings and landmarks are little-endian float32.
"""

from collections.abc import Sequence
from typing import Any

import msgpack
import numpy as np

from service.errors import MalformedBody, RegistryError, error_class
from service.inference.engine import Detection, Face, FaceChoice, Floats, Observation, Picture
from service.vision.sample import Quality

MEDIA_TYPE = "application/msgpack"
OBSERVE_PATH = "/v1/observe"
MODELS_HEADER = "x-models"
"""Request header with `VERSION` and the required models, separated by commas; a worker without them refuses."""
VERSION = "wire-2"
"""Version of the format in this module."""


def pack_images(images: Sequence[Picture]) -> bytes:
    return msgpack.packb([_pack_picture(image) for image in images])


def unpack_images(body: bytes) -> list[Picture]:
    """Raises MalformedBody if the body does not come from `pack_images`."""
    try:
        return [_unpack_picture(*item) for item in msgpack.unpackb(body)]
    except (ValueError, TypeError, IndexError, msgpack.UnpackException) as error:
        raise MalformedBody(f"the body is not a list of pictures in MessagePack: {type(error).__name__}") from None


def pack_results(results: Sequence[Observation | RegistryError]) -> bytes:
    return msgpack.packb([_pack_result(result) for result in results])


def unpack_results(body: bytes) -> list[Observation | RegistryError]:
    """Raises ValueError if the body does not come from `pack_results`."""
    try:
        return [_unpack_result(item) for item in msgpack.unpackb(body)]
    except (KeyError, TypeError, IndexError, AttributeError, msgpack.UnpackException) as error:
        raise ValueError(f"the body is not a list of results in MessagePack: {type(error).__name__}") from None


def _pack_picture(picture: Picture) -> tuple[Any, ...]:
    return (
        picture.data,
        picture.choice.value,
        picture.box,
        picture.cropped,
        picture.model_id,
        picture.keep_crop,
        picture.background,
    )


def _unpack_picture(
    data: bytes,
    choice: str,
    box: list[float] | None,
    cropped: bool,
    model_id: str | None,
    keep_crop: bool,
    background: bool,
) -> Picture:
    if not isinstance(data, bytes) or not all(isinstance(flag, bool) for flag in (cropped, keep_crop, background)):
        raise TypeError("a field of a picture has the wrong type")
    corners = None if box is None else (float(box[0]), float(box[1]), float(box[2]), float(box[3]))
    return Picture(data, FaceChoice(choice), corners, cropped, model_id, keep_crop, background)


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
    return {"size": (result.width, result.height), "detections": detections, "faces": faces}


def _unpack_result(item: dict[str, Any]) -> Observation | RegistryError:
    if "code" in item:
        return error_class(item["code"])(item["detail"], pointer=item["pointer"], **item["extensions"])
    faces = [
        Face(
            _unpack_detection(face["detection"]),
            Quality(*face["quality"]),
            _unpack_floats(face["embedding"]),
            face["crop"],
        )
        for face in item["faces"]
    ]
    width, height = item["size"]
    return Observation(width, height, [_unpack_detection(detection) for detection in item["detections"]], faces)


def _pack_detection(detection: Detection) -> tuple[Any, ...]:
    landmarks = None if detection.landmarks is None else detection.landmarks.astype("<f4").tobytes()
    return (*detection.box, detection.score, landmarks)


def _unpack_detection(item: Sequence[Any]) -> Detection:
    x_min, y_min, x_max, y_max, score, landmarks = item
    points = None if landmarks is None else _unpack_floats(landmarks).reshape(5, 3)
    return Detection((x_min, y_min, x_max, y_max), score, points)


def _pack_quality(quality: Quality) -> tuple[float | None, ...]:
    return quality.face_px, quality.sharpness, quality.asymmetry, quality.brightness, quality.score


def _unpack_floats(data: bytes) -> Floats:
    return np.frombuffer(data, "<f4").astype(np.float32)
