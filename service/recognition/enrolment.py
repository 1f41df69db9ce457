"""Registering people: infer first, then one short transaction."""

import hashlib
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import (
    DuplicatePerson,
    FaceRejected,
    IdempotencyKeyReused,
    NoImageAccepted,
    RegistryError,
)
from service.gallery.access.audit import SERVICE, Action, Actor, Event, AuditTrail
from service.gallery.people import collections, crops, idempotency, identities, templates
from service.gallery.people.collections import Collection
from service.gallery.people.crops import CropCipher
from service.gallery.search.search import Candidate
from service.gallery.storage.database import Database
from service.inference.engine import Box, Engine, Face, Picture, Observation
from service.recognition.decision_resolver import DecisionResolver
from service.recognition.duplicates import DuplicatePolicy, EnrolmentLocks, duplicate_candidates
from service.recognition.gate import QualityGate, QualityMode, gate_for
from service.recognition.outlier import agreements, outlier_threshold
from service.recognition.model_change import ModelsChangedError, require_loaded, secondary_model_of, retry_on_model_change
from service.recognition.observation import look, look_again
from service.recognition.subject import subject_face

SAME_FACE_PX = 32


@dataclass(frozen=True, slots=True)
class ImageOutcome:
    """What became of one picture: `accepted`, `duplicate` (the same picture is stored already), or `rejected`.

    `overridden`: why the gate would have refused it, had the caller not insisted. `standby`: the same face as the
    collection's standby model embeds it. `agreement`: cosine to the nearest of the person's other pictures; `outlier`:
    it is so low that this one may show somebody else.
    """

    status: str
    face: Face | None = None
    secondary: Face | None = None
    template_id: uuid.UUID | None = None
    error: RegistryError | None = None
    overridden: tuple[str, ...] = ()
    agreement: float | None = None
    outlier: bool = False


@dataclass(frozen=True, slots=True)
class Enrolment:
    """`duplicate_candidates`: other people of the collection who match the newcomer."""

    identity: identities.Identity
    created: bool
    images: list[ImageOutcome]
    duplicate_candidates: list[Candidate]


@dataclass(frozen=True, slots=True)
class IdempotentReplay:
    """The answer that the same request got before."""

    answer: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Once:
    """A caller's wish that a request has its effect once, however often it arrives.

    Attributes:
        key: the caller's name for the request.
        request_sha256: digest of all that it says.
        render: makes the answer that is kept.
    """

    key: str
    request_sha256: bytes
    render: Callable[[Enrolment], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class EnrolmentRequest:
    """`force`: faces that the gate refuses are enrolled all the same. `named`: the caller may learn who looks alike."""

    collection: str
    external_id: str
    label: str | None
    metadata: dict[str, Any] | None
    images: Sequence[Picture]
    force: bool = False
    named: bool = True
    once: IdempotencyRequest | None = None
    retain_until: datetime | None = None
    actor: Actor = SERVICE
    record: Callable[[AsyncConnection, Enrolment], Awaitable[None]] | None = None
    """Writes more in the same transaction: both are stored, or neither."""


@dataclass(frozen=True)
class Enroller:
    """Enrols people: infers first, then writes in one short transaction."""

    database: Database
    engine: Engine
    gate: QualityGate
    resolver: DecisionResolver
    enrolment_locks: EnrolmentLocks
    trail: AuditTrail
    crop_cipher: CropCipher | None = None

    async def enrol(self, request: EnrolmentRequest) -> Enrolment | IdempotentReplay:
        """Store one template for each picture whose face passes the gate, and bring the centroid up to date.

        Where a second model stands by, the same is done under it; where the collection keeps crops, they are stored.

        Raises:
            CollectionNotFound, ModelNotLoaded, EngineBusy, DatabaseUnavailable, IdempotencyKeyReused
            DuplicatePerson: the collection rejects newcomers who look like somebody else; nothing was written.
            RegistryError: no picture was accepted; nothing was written.
        """
        return await retry_on_model_change(lambda: self._enrol(request))

    async def _enrol(self, request: EnrolmentRequest) -> Enrolment | IdempotentReplay:
        async with self.database.transaction() as connection:
            collection = await collections.get(connection, request.collection)
            if (replay := await self._answered(connection, collection, request.once)) is not None:
                return replay
        require_loaded(collection, self.engine)
        secondary = secondary_model_of(collection, self.engine)
        keep_crops = collection.store_crops or secondary is not None
        observations = await look(self.engine, request.images, collection.model_id, keep_crops)
        gate = gate_for(QualityMode(collection.quality), self.gate)
        outcomes = [
            _outcome(gate, image, result, f"/images/{index}", request.force)
            for index, (image, result) in enumerate(zip(request.images, observations, strict=True))
        ]
        _require_any(outcomes)
        if secondary is not None:
            background = any(image.background for image in request.images)
            outcomes = await self._embedded_again(outcomes, secondary, background)
        return await self._store(collection, request, outcomes)

    async def _embedded_again(self, outcomes: list[ImageOutcome], secondary: str, background: bool) -> list[ImageOutcome]:
        """With what the standby model makes of the faces; of a mere embedding it makes nothing."""
        seen = [
            (index, outcome.face.crop)
            for index, outcome in enumerate(outcomes)
            if outcome.face is not None and outcome.face.crop is not None
        ]
        again = await look_again(self.engine, [crop for _, crop in seen], secondary, background)
        faces = {index: face for (index, _), face in zip(seen, again, strict=True) if isinstance(face, Face)}
        return [replace(outcome, secondary=faces.get(index)) for index, outcome in enumerate(outcomes)]

    async def _answered(self, connection: AsyncConnection, collection: Collection, once: IdempotencyRequest | None) -> IdempotentReplay | None:
        if once is None:
            return None
        return _replay(once, await idempotency.find(connection, collection.id, once.key))

    async def _store(
        self, before: Collection, request: EnrolmentRequest, outcomes: list[ImageOutcome]
    ) -> Enrolment | IdempotentReplay:
        once = request.once
        async with self.enrolment_locks.of(before), self.database.transaction() as connection:
            collection = await collections.get_held(connection, request.collection)  # its rules may have changed
            if collection.models != before.models:
                raise ModelsChangedError
            if once is not None:
                kept = await idempotency.claim(connection, collection.id, once.key, once.request_sha256)
                if (replay := _replay(once, kept)) is not None:
                    return replay
            enrolment = await self._write(connection, collection, request, outcomes)
            if request.record is not None:
                await request.record(connection, enrolment)
            if once is not None:
                answer = once.render(enrolment)
                await idempotency.keep(connection, collection.id, once.key, enrolment.identity.id, answer)
            await self.trail.append(connection, collection.id, [_event(request, enrolment)])
        return enrolment

    async def _write(
        self,
        connection: AsyncConnection,
        collection: Collection,
        request: EnrolmentRequest,
        outcomes: list[ImageOutcome],
    ) -> Enrolment:
        policy = DuplicatePolicy(collection.duplicates)
        if policy is not DuplicatePolicy.ALLOW:
            # Two who enrol the same newcomer at once: the second one sees the first one's templates.
            await collections.lock_enrolment(connection, collection.id)
        accepted = [index for index, outcome in enumerate(outcomes) if outcome.status == "accepted"]
        samples = _samples(request, outcomes, accepted)
        identity_id, created = await identities.lock_or_create(
            connection, collection.id, request.external_id, request.label, request.metadata, request.retain_until
        )
        embeddings = [sample.embedding for sample in samples]
        alike: list[Candidate] = []
        if policy is not DuplicatePolicy.ALLOW:
            alike = await duplicate_candidates(connection, self.resolver, collection, identity_id, embeddings)
        if alike and created and policy is DuplicatePolicy.REJECT:
            raise _duplicate(request.external_id, alike if request.named else [])
        agreeing = await agreements(connection, collection.id, identity_id, collection.model_id, embeddings)
        least = outlier_threshold(self.resolver.policy_of(collection.model_id))
        ids = await _add(connection, collection.id, identity_id, collection.model_id, samples)
        if collection.secondary_model_id is not None:
            second = _samples(request, outcomes, accepted, secondary=True)
            await _add(connection, collection.id, identity_id, collection.secondary_model_id, second)
        if collection.store_crops and self.crop_cipher is not None:
            files = _crops(samples, [outcomes[index].face for index in accepted])
            await crops.keep(connection, self.crop_cipher, collection.id, identity_id, files)
        for index, template_id, agreement in zip(accepted, ids, agreeing, strict=True):
            outcomes[index] = replace(
                outcomes[index],
                status="duplicate" if template_id is None else "accepted",
                template_id=template_id,
                agreement=agreement,
                outlier=agreement is not None and least is not None and agreement < least,
            )
        identity = await identities.get(connection, collection.id, identity_id)
        return Enrolment(identity, created, outcomes, alike)


def _event(request: EnrolmentRequest, enrolment: Enrolment) -> Event:
    counts = Counter(image.status for image in enrolment.images)
    details = {"created": enrolment.created, "forced": request.force, **counts}
    return Event(Action.ENROL, request.actor, enrolment.identity.id, details)


def _replay(once: IdempotencyRequest, kept: idempotency.StoredResponse | None) -> IdempotentReplay | None:
    if kept is None:
        return None
    if kept.request_sha256 != once.request_sha256:
        raise IdempotencyKeyReused(
            "another request was answered under this Idempotency-Key; give every request a key of its own"
        )
    return IdempotentReplay(kept.answer)


def _outcome(
    gate: QualityGate | None, image: Picture, result: Observation | RegistryError, pointer: str, force: bool
) -> ImageOutcome:
    try:
        face = subject_face(image, result, pointer)
    except RegistryError as error:
        return ImageOutcome("rejected", error=error.at(pointer))
    if face.given:
        return _given_outcome(gate, face, pointer, force)
    refusal = None if gate is None else gate.refusal(face)
    if refusal is None:
        return ImageOutcome("accepted", face)
    if force:
        return ImageOutcome("accepted", face, overridden=tuple(refusal.extensions["reasons"]))
    return ImageOutcome("rejected", error=refusal.at(pointer))


def _given_outcome(gate: QualityGate | None, face: Face, pointer: str, force: bool) -> ImageOutcome:
    """The gate can't look at a face of which there is only an embedding."""
    if gate is None or force:
        return ImageOutcome("accepted", face)
    return ImageOutcome(
        "rejected",
        error=FaceRejected(
            "the collection looks at the quality of faces, and an embedding shows none: send `force`, or set the "
            "collection's `quality` to `off`",
            pointer=pointer,
            reasons=["unseen"],
        ),
    )


def _duplicate(external_id: str, alike: Sequence[Candidate]) -> DuplicatePerson:
    names = ", ".join(repr(candidate.external_id) for candidate in alike[:3]) or "somebody who is enrolled"
    return DuplicatePerson(
        f"{external_id!r} looks like {names}, and the collection rejects duplicates: register the picture under that "
        "id, or merge the two, or change the collection's `duplicates`",
        duplicates=[
            {
                "identity_id": str(candidate.id),
                "external_id": candidate.external_id,
                "label": candidate.label,
                "score": round(candidate.score, 6),
            }
            for candidate in alike
        ],
    )


async def _add(
    connection: AsyncConnection,
    collection_id: uuid.UUID,
    identity_id: uuid.UUID,
    model_id: str,
    samples: Sequence[templates.NewTemplate],
) -> list[uuid.UUID | None]:
    """Store samples of a locked person under one model; their ids, None where the same face is there already."""
    ids = await templates.add(connection, collection_id, identity_id, model_id, samples)
    if any(ids):
        await templates.recompute_centroid(connection, collection_id, identity_id, model_id)
    return ids


def _samples(
    request: EnrolmentRequest, outcomes: Sequence[ImageOutcome], accepted: Sequence[int], secondary: bool = False
) -> list[templates.NewTemplate]:
    """What is stored of the accepted pictures, as the collection's own model embeds them, or the secondary one."""
    samples = []
    for index in accepted:
        outcome = outcomes[index]
        assert outcome.face is not None
        detection = outcome.face.detection
        if (face := outcome.secondary if secondary else outcome.face) is not None:
            source = source_hash(request.images[index].data, detection.box)
            samples.append(
                templates.NewTemplate(source, face.embedding, detection.box, detection.score, face.quality.score)
            )
    return samples


def _crops(samples: Sequence[templates.NewTemplate], faces: Sequence[Face | None]) -> dict[bytes, bytes]:
    """The crops of samples, by the hash of what they are of."""
    pairs = zip(samples, faces, strict=True)
    return {sample.source_sha256: face.crop for sample, face in pairs if face is not None and face.crop is not None}


def source_hash(data: bytes, box: Box) -> bytes:
    """The same picture and the same face in it: another face of a group photo is another sample."""
    centre = (int((box[0] + box[2]) / 2 // SAME_FACE_PX), int((box[1] + box[3]) / 2 // SAME_FACE_PX))
    digest = hashlib.sha256(data)
    digest.update(repr(centre).encode())
    return digest.digest()


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
