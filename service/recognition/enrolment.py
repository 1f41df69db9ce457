"""Registering people: infer first, then one short transaction."""

import hashlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from service.errors import FaceRejected, ModelNotLoaded, NoImageAccepted, RegistryError
from service.gallery import collections, identities, templates
from service.gallery.database import Database
from service.inference.engine import Box, Engine, Face, ImageInput
from service.recognition.subject import subject_face
from service.vision.sample import Quality

SAME_FACE_PX = 32


@dataclass(frozen=True, slots=True)
class QualityGate:
    """What a face must have to be enrolled; each measure with the reason code of its refusal."""

    min_face_px: float
    min_sharpness: float
    max_asymmetry: float
    min_brightness: float
    max_brightness: float
    min_score: float

    def reasons(self, quality: Quality) -> list[str]:
        refusals = {
            "too_small": quality.face_px < self.min_face_px,
            "too_blurred": quality.sharpness < self.min_sharpness,
            "extreme_pose": quality.asymmetry > self.max_asymmetry,
            "too_dark": quality.brightness < self.min_brightness,
            "too_bright": quality.brightness > self.max_brightness,
            "hard_to_recognise": quality.score is not None and quality.score < self.min_score,
        }
        return [reason for reason, refused in refusals.items() if refused]


@dataclass(frozen=True, slots=True)
class ImageOutcome:
    """What became of one picture: `accepted`, `duplicate` (the same picture is stored already), or `rejected`."""

    status: str
    face: Face | None = None
    template_id: uuid.UUID | None = None
    error: RegistryError | None = None


@dataclass(frozen=True, slots=True)
class Enrolment:
    identity: identities.Identity
    created: bool
    images: list[ImageOutcome]


@dataclass(frozen=True, slots=True)
class EnrolmentRequest:
    collection: str
    external_id: str
    label: str | None
    metadata: dict[str, Any] | None
    images: Sequence[ImageInput]


async def enrol(database: Database, engine: Engine, gate: QualityGate, request: EnrolmentRequest) -> Enrolment:
    """Store one template for each picture whose face passes the gate, and bring the centroid up to date.

    Raises:
        CollectionNotFound, ModelNotLoaded, EngineBusy, DatabaseUnavailable
        RegistryError: no picture was accepted; nothing was written.
    """
    async with database.transaction() as connection:
        collection = await collections.get(connection, request.collection)
    require_loaded(collection, engine)
    observations = await engine.observe(request.images)
    outcomes: list[ImageOutcome] = []
    for index, (image, result) in enumerate(zip(request.images, observations, strict=True)):
        try:
            face = subject_face(image, result, f"/images/{index}")
            _require_quality(gate, face)
        except RegistryError as error:
            outcomes.append(ImageOutcome("rejected", error=error.at(f"/images/{index}")))
        else:
            outcomes.append(ImageOutcome("accepted", face))
    _require_any(outcomes)
    return await _store(database, engine.model_id, collection.id, request, outcomes)


def require_loaded(collection: collections.Collection, engine: Engine) -> None:
    """Embeddings of two models can't be compared. Raises ModelNotLoaded."""
    if collection.model_id != engine.model_id:
        raise ModelNotLoaded(
            f"collection {collection.name!r} belongs to model {collection.model_id!r}, and the service runs "
            f"{engine.model_id!r}: start it with the bundle of the collection's model",
            pointer="/collection",
        )


async def _store(
    database: Database,
    model_id: str,
    collection_id: uuid.UUID,
    request: EnrolmentRequest,
    outcomes: list[ImageOutcome],
) -> Enrolment:
    accepted = [index for index, outcome in enumerate(outcomes) if outcome.status == "accepted"]
    samples = [_sample(request.images[index], outcomes[index]) for index in accepted]
    async with database.transaction() as connection:
        identity_id, created = await identities.lock_or_create(
            connection, collection_id, request.external_id, request.label, request.metadata
        )
        ids = await templates.add(connection, collection_id, identity_id, model_id, samples)
        if any(ids):
            await templates.recompute_centroid(connection, collection_id, identity_id, model_id)
        identity = await identities.get(connection, collection_id, identity_id)
    for index, template_id in zip(accepted, ids, strict=True):
        status = "duplicate" if template_id is None else "accepted"
        outcomes[index] = ImageOutcome(status, outcomes[index].face, template_id)
    return Enrolment(identity, created, outcomes)


def _sample(image: ImageInput, outcome: ImageOutcome) -> templates.NewTemplate:
    assert outcome.face is not None
    detection = outcome.face.detection
    return templates.NewTemplate(
        source_sha256=_source_hash(image.data, detection.box),
        embedding=outcome.face.embedding,
        box=detection.box,
        detection_score=detection.score,
        quality=outcome.face.quality.score,
    )


def _source_hash(data: bytes, box: Box) -> bytes:
    """The same picture and the same face in it: another face of a group photo is another sample."""
    centre = (int((box[0] + box[2]) / 2 // SAME_FACE_PX), int((box[1] + box[3]) / 2 // SAME_FACE_PX))
    digest = hashlib.sha256(data)
    digest.update(repr(centre).encode())
    return digest.digest()


def _require_quality(gate: QualityGate, face: Face) -> None:
    quality = face.quality
    if reasons := gate.reasons(quality):
        score = "unknown" if quality.score is None else f"{quality.score:.3f}"
        raise FaceRejected(
            f"the face is {', '.join(reasons).replace('_', ' ')}: size {quality.face_px:.0f} px (least "
            f"{gate.min_face_px:g}), sharpness {quality.sharpness:.0f} (least {gate.min_sharpness:g}), asymmetry "
            f"{quality.asymmetry:.2f} (most {gate.max_asymmetry:g}), brightness {quality.brightness:.0f} (from "
            f"{gate.min_brightness:g} to {gate.max_brightness:g}), quality {score} (least {gate.min_score:g})",
            reasons=reasons,
        )


def _require_any(outcomes: list[ImageOutcome]) -> None:
    """One picture's error is the request's; several are told together."""
    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    if len(errors) < len(outcomes):
        return
    if len(errors) == 1:
        raise errors[0]
    raise NoImageAccepted(
        f"none of the {len(errors)} pictures could be enrolled",
        images=[{"code": error.code, "detail": error.detail, **error.extensions} for error in errors],
    )
