"""Enrols identities: observes the pictures first, then stores everything in one short transaction."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from service.errors import DuplicatePerson, IdempotencyKeyReused, InvalidRequest
from service.gallery.access.audit_entries import Action
from service.gallery.enrolment.records import (
    AddedTemplate,
    DuplicateCheck,
    EnrolmentResult,
    NewEnrolment,
    NewTemplate,
)
from service.gallery.enrolment.store import EnrolmentStore
from service.gallery.people.collections import Collection, ModelsChangedError
from service.gallery.people.crop_cipher import CropCipher
from service.gallery.people.idempotency import StoredResponse
from service.inference.engine import Detection, Engine, Face, Floats, Picture
from service.recognition import additions, duplicates, samples
from service.recognition.decision import DecisionResolver
from service.recognition.enrolment_records import (
    Enrolment,
    EnrolmentRequest,
    IdempotencyRequest,
    IdempotentReplay,
    ImageOutcome,
)
from service.recognition.policies import DuplicatePolicy, QualityLimits, QualityMode
from service.recognition.read_audit import ReadAuditBuffer


@dataclass(frozen=True)
class Enroller:
    """The use case of enrolment.

    Attributes:
        outliers_below: for each model the similarity below which two pictures probably show different people.
        read_audit: records refused enrolments, whose transaction is rolled back.
        crop_cipher: None: crops cannot be stored.
    """

    store: EnrolmentStore
    engine: Engine
    limits: Mapping[QualityMode, QualityLimits | None]
    resolver: DecisionResolver
    outliers_below: Mapping[str, float]
    read_audit: ReadAuditBuffer
    crop_cipher: CropCipher | None = None

    async def enrol(self, request: EnrolmentRequest) -> Enrolment | IdempotentReplay:
        """Stores one template for each picture whose face has sufficient quality, and updates the centroid.

        The secondary model, if there is one, embeds the same faces; the crops are stored if the collection stores
        crops.

        Raises:
            CollectionNotFound, ModelNotLoaded, EngineBusy, DatabaseUnavailable, IdempotencyKeyReused
            DuplicatePerson: the collection rejects duplicates; nothing was stored.
            RegistryError: no picture was accepted; nothing was stored.
        """
        try:
            return await samples.retry_on_model_change(lambda: self._enrol(request))
        except (InvalidRequest, DuplicatePerson) as error:
            self.read_audit.record_rejection(request.collection, Action.ENROL, request.actor, error)
            raise

    async def enrol_faces(self, request: EnrolmentRequest, faces: Sequence[Face], model_id: str) -> Enrolment:
        """Stores faces that were observed already, like `enrol`.

        Args:
            faces: one face of each sample of the request, with its crop.
            model_id: the model of their embeddings.

        Raises:
            ModelsChangedError: it is not the collection's active model any more.
            CollectionNotFound, DatabaseUnavailable, DuplicatePerson, RegistryError: as `enrol`.
        """
        collection, _ = await self.store.begin(request.collection, None)
        if collection.model_id != model_id:
            raise ModelsChangedError
        limits = self.limits[QualityMode(collection.quality)]
        checked = [
            samples.outcome_of_face(limits, face, f"/images/{index}", request.force) for index, face in enumerate(faces)
        ]
        outcomes = await self._accepted(collection, request, checked)
        result = await self.store.store(await self._prepare(collection, request, outcomes))
        assert isinstance(result, EnrolmentResult)  # without an Idempotency-Key there is no stored response
        return self._enrolment(collection, outcomes, result)

    async def _enrol(self, request: EnrolmentRequest) -> Enrolment | IdempotentReplay:
        idempotency = request.idempotency
        collection, stored = await self.store.begin(
            request.collection, None if idempotency is None else idempotency.key
        )
        if stored is not None:
            return _replay(idempotency, stored)
        outcomes = await self._observe(collection, request)
        enrolment = await self._prepare(collection, request, outcomes)
        result = await self.store.store(enrolment)
        if isinstance(result, StoredResponse):
            return _replay(idempotency, result)
        return self._enrolment(collection, outcomes, result)

    async def _observe(self, collection: Collection, request: EnrolmentRequest) -> list[ImageOutcome]:
        """Returns the outcome of each picture. Raises RegistryError if no picture is accepted."""
        samples.require_loaded(collection, self.engine)
        keep_crops = collection.store_crops or samples.secondary_model_of(collection, self.engine) is not None
        results = await samples.observe(self.engine, request.samples, collection.model_id, keep_crops)
        limits = self.limits[QualityMode(collection.quality)]
        outcomes = [
            samples.outcome(limits, sample, result, f"/images/{index}", request.force)
            for index, (sample, result) in enumerate(zip(request.samples, results, strict=True))
        ]
        return await self._accepted(collection, request, outcomes)

    async def _accepted(
        self, collection: Collection, request: EnrolmentRequest, outcomes: list[ImageOutcome]
    ) -> list[ImageOutcome]:
        """Returns the outcomes with the secondary model's faces. Raises RegistryError if no picture is accepted."""
        samples.require_any(outcomes)
        secondary = samples.secondary_model_of(collection, self.engine)
        if secondary is None:
            return outcomes
        background = any(isinstance(item, Picture) and item.background for item in request.samples)
        return await self._re_embed(outcomes, secondary, background)

    async def _re_embed(self, outcomes: list[ImageOutcome], model_id: str, background: bool) -> list[ImageOutcome]:
        """Adds the secondary model's faces to the outcomes, except for supplied embeddings, which have no crop."""
        crops = {
            index: outcome.face.crop
            for index, outcome in enumerate(outcomes)
            if outcome.face is not None and outcome.face.crop is not None
        }
        embedded = await samples.re_embed(self.engine, list(crops.values()), model_id, background)
        faces = {index: face for index, face in zip(crops, embedded, strict=True) if isinstance(face, Face)}
        return [replace(outcome, secondary=faces.get(index)) for index, outcome in enumerate(outcomes)]

    async def _prepare(
        self, collection: Collection, request: EnrolmentRequest, outcomes: list[ImageOutcome]
    ) -> NewEnrolment:
        """Returns the enrolment to store. Hashes and encrypted crops are computed on another thread."""
        pairs = zip(request.samples, outcomes, strict=True)
        accepted = [(item, outcome.face, outcome.secondary) for item, outcome in pairs if outcome.face is not None]
        faces = [face for _, face, _ in accepted]
        sources = await samples.source_hashes([item for item, _, _ in accepted], faces)
        templates = [_template(collection.model_id, source, face) for source, face in zip(sources, faces, strict=True)]
        if collection.secondary_model_id is not None:
            templates += [
                _template(collection.secondary_model_id, source, second, face.detection)
                for source, (_, face, second) in zip(sources, accepted, strict=True)
                if second is not None
            ]
        return self._new(collection, request, outcomes, templates, await self._encrypted(collection, sources, faces))

    def _new(
        self,
        collection: Collection,
        request: EnrolmentRequest,
        outcomes: list[ImageOutcome],
        templates: list[NewTemplate],
        encrypted_crops: dict[bytes, bytes],
    ) -> NewEnrolment:
        idempotency, record = request.idempotency, request.record
        probes = [item.embedding for item in templates if item.model_id == collection.model_id]

        def enrolment(result: EnrolmentResult) -> Enrolment:
            return self._enrolment(collection, outcomes, result)

        return NewEnrolment(
            collection=collection,
            external_id=request.external_id,
            label=request.label,
            metadata=request.metadata,
            retain_until=request.retain_until,
            templates=templates,
            encrypted_crops=encrypted_crops,
            duplicate_check=self._duplicate_check(collection, request, probes),
            actor=request.actor,
            may_change=request.may_manage,
            accepts=None if request.may_manage else additions.acceptance(self.resolver, collection),
            named=request.named,
            forced=request.force,
            rejected=sum(outcome.status == "rejected" for outcome in outcomes),
            idempotency_key=None if idempotency is None else idempotency.key,
            request_sha256=b"" if idempotency is None else idempotency.request_sha256,
            response=None if idempotency is None else lambda result: idempotency.render(enrolment(result)),
            record=None if record is None else lambda connection, result: record(connection, enrolment(result)),
        )

    async def _encrypted(
        self, collection: Collection, sources: Sequence[bytes], faces: Sequence[Face]
    ) -> dict[bytes, bytes]:
        cipher = self.crop_cipher
        if cipher is None or not collection.store_crops:
            return {}
        crops = {source: face.crop for source, face in zip(sources, faces, strict=True) if face.crop is not None}
        return await asyncio.to_thread(lambda: {source: cipher.encrypt(crop, source) for source, crop in crops.items()})

    def _duplicate_check(
        self, collection: Collection, request: EnrolmentRequest, probes: Sequence[Floats]
    ) -> DuplicateCheck | None:
        policy = DuplicatePolicy(collection.duplicates)
        if policy is DuplicatePolicy.ALLOW or not request.named:
            return None
        return DuplicateCheck(
            probes=probes,
            decide=lambda size: duplicates.predicate(self.resolver, collection, size, len(probes)),
            refuse=(lambda candidates: duplicates.duplicate_person(request, candidates))
            if policy is DuplicatePolicy.REJECT
            else None,
        )

    def _enrolment(
        self, collection: Collection, outcomes: Sequence[ImageOutcome], result: EnrolmentResult
    ) -> Enrolment:
        added = iter(result.templates)  # the active model's templates come first, in the order of the pictures
        images = [
            outcome if outcome.status != "accepted" else self._added(collection, outcome, next(added))
            for outcome in outcomes
        ]
        return Enrolment(result.identity, result.created, images, result.duplicates)

    def _added(self, collection: Collection, outcome: ImageOutcome, added: AddedTemplate) -> ImageOutcome:
        if added.rejection is not None:
            return replace(outcome, status="rejected", error=added.rejection)
        return replace(
            outcome,
            status="duplicate" if added.id is None else "accepted",
            template_id=added.id,
            similarity=added.similarity,
            outlier=added.similarity is not None and added.similarity < self.outliers_below[collection.model_id],
        )


def _replay(request: IdempotencyRequest | None, stored: StoredResponse) -> IdempotentReplay:
    if request is None or stored.request_sha256 != request.request_sha256:
        raise IdempotencyKeyReused(
            "a different request was sent with this Idempotency-Key; use a new key for each request"
        )
    return IdempotentReplay(stored.response)


def _template(model_id: str, source: bytes, face: Face, detection: Detection | None = None) -> NewTemplate:
    """Returns the template. `detection`: that of the picture, if `face` was embedded from an aligned crop."""
    detection = detection or face.detection
    values = detection.box, detection.score, face.quality.score, detection.manual
    return NewTemplate(model_id, source, face.embedding, *values)
