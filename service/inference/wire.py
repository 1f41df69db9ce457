"""How pictures travel to a worker and faces come back: MessagePack, with pictures and embeddings as raw bytes."""

from collections.abc import Sequence
from typing import Any

import msgpack
import numpy as np

from service.errors import MalformedBody, RegistryError, error_class
from service.inference.engine import Detection, Face, FaceChoice, Floats, Picture, Observation
from service.vision.sample import Quality

MEDIA_TYPE = "application/msgpack"
OBSERVE_PATH = "/v1/observe"
MODELS_HEADER = "x-models"
"""What the caller expects, by commas; a worker that lacks one of the models, or writes otherwise, must not answer."""
VERSION = "wire-2"
"""Of what is written here."""


def pack_images(images: Sequence[Picture]) -> bytes:
    return msgpack.packb([_packed_image(image) for image in images])


def unpack_images(body: bytes) -> list[Picture]:
    """Raises MalformedBody."""
    try:
        return [_image(*item) for item in msgpack.unpackb(body)]
    except (ValueError, TypeError, IndexError, msgpack.UnpackException) as error:
        raise MalformedBody(f"the body does not hold pictures: {type(error).__name__}") from None


def pack_results(results: Sequence[Observation | RegistryError]) -> bytes:
    return msgpack.packb([_packed(result) for result in results])


def unpack_results(body: bytes) -> list[Observation | RegistryError]:
    """Raises ValueError: the body is not a worker's answer."""
    try:
        return [_unpacked(item) for item in msgpack.unpackb(body)]
    except (KeyError, TypeError, IndexError, AttributeError, msgpack.UnpackException) as error:
        raise ValueError(f"not a worker's answer: {type(error).__name__}") from None


def _packed_image(image: Picture) -> tuple[Any, ...]:
    return image.data, image.choice.value, image.box, image.cropped, image.model_id, image.keep_crop, image.background


def _image(
    data: bytes, choice: str, box: list[float] | None, cropped: bool, model_id: str | None, *wishes: bool
) -> Picture:
    if not isinstance(data, bytes) or not all(isinstance(value, bool) for value in (cropped, *wishes)):
        raise TypeError("not a picture")
    corners = None if box is None else (float(box[0]), float(box[1]), float(box[2]), float(box[3]))
    keep_crop, background = wishes
    return Picture(data, FaceChoice(choice), corners, cropped, model_id, keep_crop, background)


def _packed(result: Observation | RegistryError) -> dict[str, Any]:
    if isinstance(result, RegistryError):
        return {
            "code": result.code,
            "detail": result.detail,
            "pointer": result.pointer,
            "extensions": result.extensions,
        }
    faces = [
        {
            "detection": _packed_detection(face.detection),
            "quality": _packed_quality(face.quality),
            "embedding": face.embedding.astype("<f4").tobytes(),
            "crop": face.crop,
        }
        for face in result.faces
    ]
    detections = [_packed_detection(detection) for detection in result.detections]
    return {"size": (result.width, result.height), "detections": detections, "faces": faces}


def _unpacked(item: dict[str, Any]) -> Observation | RegistryError:
    if "code" in item:
        return error_class(item["code"])(item["detail"], pointer=item["pointer"], **item["extensions"])
    faces = [
        Face(_detection(face["detection"]), Quality(*face["quality"]), _floats(face["embedding"]), face["crop"])
        for face in item["faces"]
    ]
    width, height = item["size"]
    return Observation(width, height, [_detection(detection) for detection in item["detections"]], faces)


def _packed_detection(detection: Detection) -> tuple[Any, ...]:
    landmarks = None if detection.landmarks is None else detection.landmarks.astype("<f4").tobytes()
    return (*detection.box, detection.score, landmarks)


def _detection(item: Sequence[Any]) -> Detection:
    x_min, y_min, x_max, y_max, score, landmarks = item
    points = None if landmarks is None else _floats(landmarks).reshape(5, 3)
    return Detection((x_min, y_min, x_max, y_max), score, points)


def _packed_quality(quality: Quality) -> tuple[float | None, ...]:
    return quality.face_px, quality.sharpness, quality.asymmetry, quality.brightness, quality.score


def _floats(data: bytes) -> Floats:
    return np.frombuffer(data, "<f4").astype(np.float32)
