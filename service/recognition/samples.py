"""Converts the pictures and supplied embeddings of a request to faces, or to the error of each."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from service.errors import (
    Conflict,
    FaceRejected,
    ImageTruncated,
    InvalidEmbedding,
    ModelNotLoaded,
    NoFace,
    NoImageAccepted,
    RegistryError,
    SeveralFaces,
)
from service.gallery.people.collections import Collection, ModelsChangedError
from service.inference.engine import (
    Detection,
    Engine,
    Face,
    FaceChoice,
    Observation,
    Picture,
    Sample,
    SuppliedEmbedding,
)
from service.recognition.enrolment_records import ImageOutcome
from service.recognition.policies import QualityLimits
from service.vision.sample import Quality

Result = TypeVar("Result")
MODEL_CHANGE_ATTEMPTS = 5
NO_DETECTION = Detection((0.0, 0.0, 0.0, 0.0), 1.0, None)
NO_QUALITY = Quality(face_px=0, sharpness=0, asymmetry=0, brightness=0, visible=1, score=None)
SAME_FACE_PX = 32
"""Two faces of one picture whose centres lie in the same square of this side length in pixels are the same face."""


async def observe(
    engine: Engine, samples: Sequence[Sample], model_id: str, keep_crops: bool = False
) -> list[Observation | RegistryError]:
    """Detects and embeds the faces of pictures; a supplied embedding of the model is used as it is.

    Args:
        keep_crops: faces from pictures include their aligned crops.

    Returns:
        One observation or error for each sample, in the order of `samples`.
    """
    pictures = [replace(item, model_id=model_id, keep_crop=keep_crops) for item in samples if isinstance(item, Picture)]
    observed = iter(await engine.observe(pictures) if pictures else [])
    return [next(observed) if isinstance(item, Picture) else _observation(item, model_id) for item in samples]


async def re_embed(
    engine: Engine, crops: Sequence[bytes], model_id: str, background: bool = False
) -> list[Face | RegistryError]:
    """Embeds aligned crops with another model. Returns one face or error for each crop."""
    pictures = [Picture(crop, cropped=True, model_id=model_id, background=background) for crop in crops]
    observed = await engine.observe(pictures) if pictures else []
    return [item if isinstance(item, RegistryError) else item.faces[0] for item in observed]


def subject_face(sample: Sample, result: Observation | RegistryError, pointer: str) -> Face:
    """Returns the face of the sample that is enrolled or compared.

    Raises:
        NoFace, SeveralFaces: the extensions contain the boxes of the detected faces.
        RegistryError: the picture's own error, with the pointer.
    """
    observation = require_observation(result, pointer)
    if observation.faces:
        return observation.faces[0]
    boxes = [describe(detection) for detection in observation.detections]
    choice = sample.choice if isinstance(sample, Picture) else FaceChoice.STRONGEST
    if choice is FaceChoice.ONLY and len(boxes) > 1:
        raise SeveralFaces(
            f"the picture shows {len(boxes)} faces; choose one with face=box and its box, or send face=strongest or "
            "face=largest",
            pointer=pointer,
            faces=boxes,
        )
    if choice is FaceChoice.BOX and not observation.truncated:
        raise NoFace(
            "no detected face overlaps the box, and the box itself shows no face; send it in pixels of the upright "
            "picture, tight around the face",
            pointer=pointer,
            faces=boxes,
        )
    raise no_face(observation).with_pointer(pointer)


def no_face(observation: Observation) -> NoFace | ImageTruncated:
    """Returns the error for a picture without a detected face, with the likely cause."""
    if observation.truncated:
        return ImageTruncated(
            "the file ends before the last pixel, and the rows that it contains show no face; the upload may be "
            "incomplete, send the file again"
        )
    cause = observation.likely_cause or "send a larger or sharper picture of the face"
    return NoFace(f"the detector finds no face in the picture, in any orientation; {cause}", faces=[])


def require_observation(result: Observation | RegistryError, pointer: str) -> Observation:
    """Returns the observation, or raises the picture's error with the pointer."""
    if isinstance(result, RegistryError):
        raise result.with_pointer(pointer)
    return result


def describe(detection: Detection) -> dict[str, Any]:
    """Returns a detection as a member of a problem document."""
    return {"box": [round(value, 1) for value in detection.box], "detection_score": round(detection.score, 4)}


def refusal(face: Face, limits: QualityLimits) -> FaceRejected | None:
    """Returns the error for a face of insufficient quality, with all measures and limits; None: it is sufficient."""
    quality = face.quality
    checks = {
        "too_small": quality.face_px < limits.min_face_px,
        "too_blurred": quality.sharpness < limits.min_sharpness,
        "extreme_pose": quality.asymmetry > limits.max_asymmetry,
        "too_dark": quality.brightness < limits.min_brightness,
        "too_bright": quality.brightness > limits.max_brightness,
        "cut_off": quality.visible < limits.min_visible,
        "hard_to_recognise": quality.score is not None and quality.score < limits.min_score,
    }
    reasons = [reason for reason, failed in checks.items() if failed]
    if not reasons:
        return None
    score = "unknown" if quality.score is None else f"{quality.score:.3f}"
    return FaceRejected(
        f"the face is {', '.join(reasons).replace('_', ' ')}: size {quality.face_px:.0f} px (minimum "
        f"{limits.min_face_px:g}), sharpness {quality.sharpness:.0f} (minimum {limits.min_sharpness:g}), asymmetry "
        f"{quality.asymmetry:.2f} (maximum {limits.max_asymmetry:g}), brightness {quality.brightness:.0f} (from "
        f"{limits.min_brightness:g} to {limits.max_brightness:g}), visible {quality.visible:.2f} (minimum "
        f"{limits.min_visible:g}), quality {score} (minimum {limits.min_score:g})",
        reasons=reasons,
    )


def outcome(
    limits: QualityLimits | None, sample: Sample, result: Observation | RegistryError, pointer: str, force: bool
) -> ImageOutcome:
    """Returns the outcome of a picture for enrolment."""
    try:
        face = subject_face(sample, result, pointer)
    except RegistryError as error:
        return ImageOutcome("rejected", error=error.with_pointer(pointer))
    return outcome_of_face(limits, face, pointer, force)


def outcome_of_face(limits: QualityLimits | None, face: Face, pointer: str, force: bool = False) -> ImageOutcome:
    """Returns the outcome of a face: it is accepted if its quality is sufficient, or with `force`."""
    refused = None if limits is None else _no_picture() if face.supplied else refusal(face, limits)
    if refused is None or (force and face.supplied):
        return ImageOutcome("accepted", face)
    if force:
        return ImageOutcome("accepted", face, overridden=tuple(refused.extensions["reasons"]))
    return ImageOutcome("rejected", error=refused.with_pointer(pointer))


def _no_picture() -> FaceRejected:
    return FaceRejected(
        "the collection checks the quality of faces, and an embedding has no picture; send `force`, or set the "
        "collection's `quality` to `off`",
        reasons=["unseen"],
    )


def require_any(outcomes: Sequence[ImageOutcome]) -> None:
    """Raises the error of a single picture, or NoImageAccepted with the errors of several."""
    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    if len(errors) < len(outcomes):
        return
    if len(errors) == 1:
        raise errors[0]
    raise NoImageAccepted(
        f"none of the {len(errors)} pictures was accepted; `images` contains the error of each picture",
        images=[{"code": error.code, "detail": error.detail, **error.extensions} for error in errors],
    )


async def source_hashes(samples: Sequence[Sample], faces: Sequence[Face]) -> list[bytes]:
    """Returns the SHA-256 (32 bytes) of each sample and the position of its face; hashes pictures on another thread.

    The same face of the same picture has the same hash; other faces of a group photo have different hashes.
    """
    if any(isinstance(sample, Picture) for sample in samples):
        return await asyncio.to_thread(_source_hashes, samples, faces)
    return _source_hashes(samples, faces)


def embedding_hash(sample: SuppliedEmbedding) -> bytes:
    """Returns the SHA-256 of a supplied embedding, as `source_hashes` does."""
    return _source_hash(sample, NO_DETECTION)


def _source_hashes(samples: Sequence[Sample], faces: Sequence[Face]) -> list[bytes]:
    return [_source_hash(sample, face.detection) for sample, face in zip(samples, faces, strict=True)]


def _source_hash(sample: Sample, detection: Detection) -> bytes:
    box = detection.box
    centre = (int((box[0] + box[2]) / 2 // SAME_FACE_PX), int((box[1] + box[3]) / 2 // SAME_FACE_PX))
    data = sample.data if isinstance(sample, Picture) else sample.vector.astype("<f4").tobytes()
    return hashlib.sha256(data + repr(centre).encode()).digest()


def _observation(sample: SuppliedEmbedding, model_id: str) -> Observation | RegistryError:
    if sample.model_id != model_id:
        return InvalidEmbedding(f"the embedding is of model {sample.model_id!r}; this comparison uses {model_id!r}")
    return Observation(0, 0, [NO_DETECTION], [Face(NO_DETECTION, NO_QUALITY, sample.vector, supplied=True)])


async def retry_on_model_change(attempt: Callable[[], Awaitable[Result]]) -> Result:
    """Repeats an attempt if the collection's models changed during it: embeddings of two models must not be compared.

    Raises:
        Conflict: the models changed during five attempts.
    """
    for _ in range(MODEL_CHANGE_ATTEMPTS):
        try:
            return await attempt()
        except ModelsChangedError:
            continue
    raise Conflict("the collection's models changed several times during the request; send it again")


def require_loaded(collection: Collection, engine: Engine) -> None:
    """Raises ModelNotLoaded if the service does not run the collection's active model."""
    if collection.model_id not in engine.dims:
        raise ModelNotLoaded(
            f"the collection {collection.name!r} uses the model {collection.model_id!r}; the service runs "
            f"{', '.join(engine.dims)}. Start it with the bundle of the collection's model",
            pointer="/collection",
        )


def secondary_model_of(collection: Collection, engine: Engine) -> str | None:
    """Returns the secondary model if this service runs it; otherwise new identities count as missing under it."""
    return collection.secondary_model_id if collection.secondary_model_id in engine.dims else None
