"""1:N identification: searches a collection for the identities nearest to a face."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from service.gallery.access.audit_entries import SERVICE, Action, Actor, Event
from service.gallery.index.centroids import centroid_of
from service.gallery.people.collections import Collection
from service.gallery.search.nearest import SearchOptions
from service.gallery.search.results import Candidate, SearchResult
from service.gallery.search.search import GallerySearch, OpenGallery
from service.inference.engine import Detection, Engine, Face, FaceChoice, Floats, Observation, Picture, Sample
from service.recognition import samples
from service.recognition.candidates import CandidateDecision, ResponseLimits, decide
from service.recognition.decision import Decision, DecisionResolver
from service.recognition.operating_point import OperatingPoint
from service.recognition.policies import QualityLimits, QualityMode
from service.recognition.read_audit import ReadAuditBuffer
from service.telemetry.metrics import DECISIONS, SCORES


@dataclass(frozen=True, slots=True)
class FaceMatches:
    """The faces of one probe, and the nearest identities, best first.

    Attributes:
        lowest_similarity: the lowest cosine, -1 to 1, between two of the faces; None for a single face.
        outlier: `lowest_similarity` is so low that the faces may show several people.
        quality_reasons: why the quality of every face is below the limits; empty: that of one is sufficient.
        is_decided: False: no candidate matches, because of `quality_reasons`.
    """

    faces: list[Face]
    result: SearchResult
    lowest_similarity: float | None = None
    outlier: bool = False
    quality_reasons: tuple[str, ...] = ()
    is_decided: bool = True

    def decide(self, decision: Decision, candidate: Candidate) -> CandidateDecision:
        """Decides whether a candidate is a match."""
        if self.is_decided:
            return decide(decision, candidate)
        reasons = ", ".join(self.quality_reasons).replace("_", " ")
        return CandidateDecision(
            False, None, f"the face of the probe is {reasons}; send a better picture, or `force` to decide nevertheless"
        )

    def first_match(self, decision: Decision) -> Candidate | None:
        """Returns the first candidate that is a match; None: there is none."""
        return next((item for item in self.result.candidates if self.decide(decision, item).match), None)


@dataclass(frozen=True, slots=True)
class Identification:
    """The result of an identification.

    Attributes:
        matches: one item for each probe.
        detections: every detected face of the pictures.
        search_ms: duration of the database search in milliseconds.
    """

    matches: list[FaceMatches]
    detections: list[Detection]
    decision: Decision
    search_ms: float
    model_id: str


@dataclass(frozen=True, slots=True)
class IdentificationRequest:
    """A request to search for one face, or for every face of a picture.

    Attributes:
        samples: pictures of one person, which are fused into one probe.
        metadata_filter: as `service.gallery.search.filters` defines it.
        with_metadata: return the metadata of the candidates.
        explain: include PostgreSQL's plan.
        is_list: the caller sent a list of pictures, to whose items the pointers of errors refer.
        keep_crops: the faces include their aligned crops.
        force: decide also if the quality of the probe is below the limits.
    """

    collection: str
    samples: Sequence[Sample]
    requested: OperatingPoint | None
    top_k: int
    metadata_filter: Mapping[str, Any] | None = None
    with_metadata: bool = True
    explain: bool = False
    is_list: bool = False
    keep_crops: bool = False
    force: bool = False
    actor: Actor = SERVICE


@dataclass(frozen=True)
class Identifier:
    """The use case of identification. `quality`: the limits for probes in collections with quality limits."""

    search: GallerySearch
    engine: Engine
    resolver: DecisionResolver
    read_audit: ReadAuditBuffer
    limits: ResponseLimits
    quality: QualityLimits | None = None

    async def identify(self, request: IdentificationRequest) -> Identification:
        """Returns the nearest identities of the chosen face, or of every face. Nothing is stored except audit events.

        Raises:
            CollectionNotFound, ModelNotLoaded, RateNotCalibrated, InvalidFilter, NoFace, SeveralFaces, RegistryError
        """
        with self.read_audit.rejections(request.collection, Action.SEARCH, request.actor):
            identification = await samples.retry_on_model_change(lambda: self._identify(request))
        self._record(request, identification)
        return identification

    async def _identify(self, request: IdentificationRequest) -> Identification:
        if not any(isinstance(sample, Picture) for sample in request.samples):
            async with self.search.open(request.collection) as gallery:
                samples.require_loaded(gallery.collection, self.engine)
                observations = await self._observe(request, gallery.collection)
                return await self._search(request, observations, gallery)
        collection = await self.search.collection(request.collection)
        samples.require_loaded(collection, self.engine)
        observations = await self._observe(request, collection)
        async with self.search.reopen(collection) as gallery:
            return await self._search(request, observations, gallery)

    async def _observe(self, request: IdentificationRequest, collection: Collection) -> list[Observation]:
        observed = await samples.observe(self.engine, request.samples, collection.model_id, request.keep_crops)
        return [
            samples.require_observation(result, pointer)
            for result, pointer in zip(observed, _pointers(request), strict=True)
        ]

    async def _search(
        self, request: IdentificationRequest, observations: Sequence[Observation], gallery: OpenGallery
    ) -> Identification:
        faces = _probes(request, observations)
        parts = gallery.collection, gallery.size, request.requested, len(request.samples), len(faces)
        decision = self.resolver.for_search(*parts)
        self.limits.require_candidates(len(faces), request.top_k)
        fused = [_fuse(group) for group in faces]
        started = time.perf_counter()
        probes = [probe for probe, _ in fused]
        options = SearchOptions(request.top_k, request.metadata_filter, request.with_metadata, request.explain)
        results = await gallery.search(probes, options)
        self.limits.require_bytes(candidate.metadata for result in results for candidate in result.candidates)
        model_id = gallery.collection.model_id
        outliers_below = self.resolver.outliers_below[model_id]
        elapsed_ms = (time.perf_counter() - started) * 1000
        limits = None if QualityMode(gallery.collection.quality) is QualityMode.OFF else self.quality
        matches = []
        for group, result, (_, lowest) in zip(faces, results, fused, strict=True):
            reasons = _quality_reasons(group, limits)
            is_outlier = lowest is not None and lowest < outliers_below
            matches.append(FaceMatches(group, result, lowest, is_outlier, reasons, request.force or not reasons))
        detections = [detection for observation in observations for detection in observation.detections]
        return Identification(matches, detections, decision, elapsed_ms, model_id)

    def _record(self, request: IdentificationRequest, identification: Identification) -> None:
        """Updates the metrics and the audit trail."""
        decision, matched = identification.decision, 0
        identities: set[str] = set()
        for match in identification.matches:
            candidates = match.result.candidates
            best = match.first_match(decision)
            is_match = best is not None
            matched += is_match
            if best is not None:
                identities.add(str(best.id))
            DECISIONS.labels("search", str(is_match).lower()).inc()
            if candidates:
                SCORES.labels("search").observe(candidates[0].score)
        details: dict[str, Any] = {
            "pictures": len(request.samples),
            "faces": len(identification.matches),
            "matches": matched,
        }
        if identities:
            details["identities"] = sorted(identities)
        self.read_audit.record(request.collection, Event(Action.SEARCH, request.actor, details=details))


def _pointers(request: IdentificationRequest) -> list[str]:
    return [f"/images/{index}" for index in range(len(request.samples))] if request.is_list else ["/image"]


def _probes(request: IdentificationRequest, observations: Sequence[Observation]) -> list[list[Face]]:
    """Returns the faces of each probe: one probe for each face of a picture, or one of all pictures together."""
    first = request.samples[0]
    if isinstance(first, Picture) and first.choice is FaceChoice.ALL and observations[0].faces:
        return [[face] for face in observations[0].faces]
    observed = zip(request.samples, observations, _pointers(request), strict=True)
    return [[samples.subject_face(*item) for item in observed]]


def _fuse(faces: Sequence[Face]) -> tuple[Floats, float | None]:
    """Returns the normalised mean of the faces' embeddings, and the lowest cosine between two of them."""
    embeddings = np.stack([face.embedding for face in faces])
    if len(faces) == 1:
        return embeddings[0], None
    return centroid_of(embeddings), float((embeddings @ embeddings.T).min())


def _quality_reasons(faces: Sequence[Face], limits: QualityLimits | None) -> tuple[str, ...]:
    """Returns why the quality of all faces of a probe is below the limits. A supplied embedding has no quality."""
    if limits is None or any(face.supplied for face in faces):
        return ()
    refusals = [samples.refusal(face, limits) for face in faces]
    reasons = [reason for refusal in refusals if refusal is not None for reason in refusal.extensions["reasons"]]
    return () if None in refusals else tuple(dict.fromkeys(reasons))
