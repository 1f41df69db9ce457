"""1:1 verification: compares two pictures, or a picture with an enrolled identity."""

import uuid
from dataclasses import dataclass

import numpy as np

from service.errors import IdentityNotFound
from service.gallery.access.audit_entries import SERVICE, Action, Actor, Event
from service.gallery.people import corrections, identities, templates
from service.gallery.people.collections import Collection, ModelsChangedError
from service.gallery.people.identities import Identity
from service.gallery.search.search import GallerySearch
from service.inference.engine import Engine, Face, Floats, Sample, SuppliedEmbedding
from service.recognition import samples
from service.recognition.collection_access import in_collection
from service.recognition.decision import Decision, DecisionResolver
from service.recognition.operating_point import OperatingPoint, Rate
from service.recognition.read_audit import ReadAuditBuffer
from service.telemetry.metrics import DECISIONS, SCORES


@dataclass(frozen=True, slots=True)
class Verification:
    """The result of a comparison.

    Attributes:
        score: cosine similarity, -1 to 1; the highest one if the identity has several templates.
        threshold, fmr: those of the comparison with all templates of the identity.
        face_b: None if the probe was compared with an identity.
        overruled: the probe is nearer to a corrected face than to the identity's templates.
    """

    match: bool
    score: float
    threshold: float
    fmr: Rate | None
    decision: Decision
    model_id: str
    face_a: Face
    face_b: Face | None = None
    identity: Identity | None = None
    overruled: bool = False


@dataclass(frozen=True, slots=True)
class VerificationRequest:
    """A request to compare `sample_a` with `sample_b`, or with the identity that one of the two ids names."""

    collection: str
    requested: OperatingPoint | None
    sample_a: Sample
    sample_b: Sample | None = None
    identity_id: uuid.UUID | None = None
    external_id: str | None = None
    actor: Actor = SERVICE


@dataclass(frozen=True)
class Verifier:
    """The use case of verification."""

    search: GallerySearch
    engine: Engine
    resolver: DecisionResolver
    read_audit: ReadAuditBuffer

    async def verify(self, request: VerificationRequest) -> Verification:
        """Compares both sides of the request. Nothing is stored except an audit event.

        Raises:
            CollectionNotFound, IdentityNotFound, ModelNotLoaded, RateNotCalibrated, RegistryError
        """
        with self.read_audit.rejections(request.collection, Action.VERIFY, request.actor):
            if request.sample_b is not None:
                verification = await self._compare_pictures(request, request.sample_b)
            else:
                verification = await samples.retry_on_model_change(lambda: self._compare_identity(request))
        identity_id = None if verification.identity is None else verification.identity.id
        event = Event(Action.VERIFY, request.actor, identity_id, {"match": verification.match})
        self.read_audit.record(request.collection, event)
        SCORES.labels("verify").observe(verification.score)
        DECISIONS.labels("verify", str(verification.match).lower()).inc()
        return verification

    async def _compare_pictures(self, request: VerificationRequest, sample_b: Sample) -> Verification:
        decision, model_id = await self._decide(request, sample_b)
        pair = request.sample_a, sample_b
        results = await samples.observe(self.engine, pair, model_id)
        face_a, face_b = (
            samples.subject_face(*item) for item in zip(pair, results, ("/image_a", "/image_b"), strict=True)
        )
        score = float(np.dot(face_a.embedding, face_b.embedding))
        match = decision.accepts(score)
        return Verification(match, score, decision.threshold, decision.fmr, decision, model_id, face_a, face_b)

    async def _decide(self, request: VerificationRequest, sample_b: Sample) -> tuple[Decision, str]:
        """Returns the decision for two pictures and its model.

        For the collection's default rate and for an FPIR, which is that of a search of the collection, the gallery is
        read and the collection's model applies. Otherwise the model of a supplied embedding or the main model applies.
        """
        requested = request.requested
        if requested is not None and requested.kind != "fpir":
            pair = request.sample_a, sample_b
            supplied = [sample.model_id for sample in pair if isinstance(sample, SuppliedEmbedding)]
            model_id = supplied[0] if supplied else self.engine.model_id
            return self.resolver.policy_of(model_id).decide(requested, None), model_id
        collection, size = await self.search.begin(request.collection)
        return self.resolver.for_gallery(collection, size, requested), collection.model_id

    async def _compare_identity(self, request: VerificationRequest) -> Verification:
        collection, size = await self.search.begin(request.collection)
        samples.require_loaded(collection, self.engine)
        decision = self.resolver.for_gallery(collection, size, request.requested)
        [result] = await samples.observe(self.engine, [request.sample_a], collection.model_id)
        face = samples.subject_face(request.sample_a, result, "/image_a")
        identity, score, count, counter = await self._scores(request, collection, face.embedding)
        threshold = decision.threshold_at(score, count)
        overruled = corrections.overrules(counter, score)
        return Verification(
            match=score >= threshold and not overruled,
            score=score,
            threshold=threshold,
            fmr=decision.fmr_against(count),
            decision=decision,
            model_id=collection.model_id,
            face_a=face,
            identity=identity,
            overruled=overruled,
        )

    async def _scores(
        self, request: VerificationRequest, collection: Collection, probe: Floats
    ) -> tuple[Identity, float, int, float | None]:
        """Returns the identity, the best score, the number of templates, and the score of the nearest correction."""
        async with in_collection(self.search.database, request.collection) as (connection, current):
            if (current.id, current.model_id) != (collection.id, collection.model_id):
                raise ModelsChangedError
            if request.identity_id is not None:
                identity = await identities.get(connection, current.id, request.identity_id)
            else:
                identity = await identities.get_by_external_id(connection, current.id, request.external_id or "")
            scope = connection, current.id, identity.id, current.model_id, probe
            best = await templates.best_score(*scope)
            if best is None:
                raise IdentityNotFound(f"the identity {identity.id} has no template of the model {current.model_id!r}")
            return identity, *best, await corrections.nearest_score(*scope)
