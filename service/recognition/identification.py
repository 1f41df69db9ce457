"""1:N: who is this?"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from service.gallery.people import collections
from service.gallery.people.templates import Floats, centroid_of
from service.gallery.search.filters import condition_of
from service.gallery.search.search import SearchResult, nearest
from service.gallery.storage.database import Database
from service.inference.engine import Detection, Engine, Face, FaceChoice, Picture, Observation
from service.recognition.decision import Decision, OperatingPoint
from service.recognition.decision_resolver import DecisionResolver
from service.recognition.outlier import outlier_threshold
from service.recognition.model_change import ModelsChangedError, require_loaded, retry_on_model_change
from service.recognition.observation import look
from service.recognition.subject import require_observation, subject_face


@dataclass(frozen=True, slots=True)
class FaceMatches:
    """Faces of one person, and the enrolled people nearest to them, best first.

    `agreement`: lowest cosine between two of the faces, None for a single one; `outlier`: it is so low that they may be
    of several people.
    """

    faces: list[Face]
    found: Found
    agreement: float | None = None
    outlier: bool = False


@dataclass(frozen=True, slots=True)
class Identification:
    matches: list[FaceMatches]
    detections: list[Detection]
    decision: Decision
    search_ms: float
    model_id: str


@dataclass(frozen=True, slots=True)
class IdentificationRequest:
    """`images`: of one person, fused into one probe. `metadata_filter`: as `service.gallery.search.filters` reads it.

    `explain`: tell how the database searched. `listed`: the caller gave a list, which errors point into.
    """

    collection: str
    images: Sequence[Picture]
    asked: OperatingPoint | None
    top_k: int
    metadata_filter: Mapping[str, Any] | None = None
    explain: bool = False
    listed: bool = False


async def identify(database: Database, engine: Engine, resolver: DecisionResolver, request: IdentificationRequest) -> Identification:
    """The nearest identities of the chosen face, or of every face.

    Raises:
        CollectionNotFound, ModelNotLoaded, FmrNotCalibrated, InvalidFilter, NoFace, SeveralFaces, RegistryError
    """
    return await retry_on_model_change(lambda: _identify(database, engine, resolver, request))


async def _identify(database: Database, engine: Engine, resolver: DecisionResolver, request: IdentificationRequest) -> Identification:
    among = None if request.metadata_filter is None else condition_of(request.metadata_filter)
    async with database.transaction() as connection:
        collection = await collections.get(connection, request.collection)
        require_loaded(collection, engine)
        decision = await resolver.for_gallery(connection, collection, request.asked, len(request.images))
    observations = [
        require_observation(result, pointer)
        for result, pointer in zip(
            await look(engine, request.images, collection.model_id), _pointers(request), strict=True
        )
    ]
    probes = _probes(request, observations)
    least = outlier_threshold(resolver.policy_of(collection.model_id))
    started = time.perf_counter()
    async with database.transaction() as connection:
        if (await collections.get(connection, request.collection)).model_id != collection.model_id:
            raise ModelsChangedError
        matches = []
        for faces in probes:
            probe, agreement = _fuse(faces)
            found = await nearest(
                connection, collection.id, collection.model_id, probe, request.top_k, among, request.explain
            )
            outlier = agreement is not None and least is not None and agreement < least
            matches.append(FaceMatches(faces, found, agreement, outlier))
    elapsed_ms = (time.perf_counter() - started) * 1000
    detections = [detection for observation in observations for detection in observation.detections]
    return Identification(matches, detections, decision, elapsed_ms, collection.model_id)


def _pointers(request: IdentificationRequest) -> list[str]:
    return [f"/images/{index}" for index in range(len(request.images))] if request.listed else ["/image"]


def _probes(request: IdentificationRequest, observations: Sequence[Observation]) -> list[list[Face]]:
    """The faces of each probe: every face of a picture by itself, or one face of each picture together."""
    if request.images[0].choice is FaceChoice.ALL and observations[0].faces:
        return [[face] for face in observations[0].faces]
    seen = zip(request.images, observations, _pointers(request), strict=True)
    return [[subject_face(image, observation, pointer) for image, observation, pointer in seen]]


def _fuse(faces: Sequence[Face]) -> tuple[Floats, float | None]:
    """The normalised mean of the faces' embeddings, and the lowest cosine between two of them."""
    embeddings = np.stack([face.embedding for face in faces])
    if len(faces) == 1:
        return embeddings[0], None
    return centroid_of(embeddings), float((embeddings @ embeddings.T).min())
