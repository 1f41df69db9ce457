"""1:N: who is this?"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from service.gallery import collections
from service.gallery.database import Database
from service.gallery.filters import condition_of
from service.gallery.search import Found, nearest
from service.inference.engine import Detection, Engine, Face, FaceChoice, ImageInput
from service.recognition.deciding import Deciding
from service.recognition.decision import Decision, OperatingPoint
from service.recognition.enrolment import require_loaded
from service.recognition.subject import require_observation, subject_face


@dataclass(frozen=True, slots=True)
class FaceMatches:
    """A face of the probe and the enrolled people nearest to it, best first."""

    face: Face
    found: Found


@dataclass(frozen=True, slots=True)
class Identification:
    matches: list[FaceMatches]
    detections: list[Detection]
    decision: Decision
    search_ms: float


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """`metadata_filter`: as `service.gallery.filters` reads it. `explain`: tell how the database searched."""

    collection: str
    image: ImageInput
    asked: OperatingPoint | None
    top_k: int
    metadata_filter: Mapping[str, Any] | None = None
    explain: bool = False


async def identify(database: Database, engine: Engine, deciding: Deciding, request: SearchRequest) -> Identification:
    """The nearest identities of the chosen face, or of every face.

    Raises:
        CollectionNotFound, ModelNotLoaded, FmrNotCalibrated, InvalidFilter, NoFace, SeveralFaces, RegistryError
    """
    image = request.image
    among = None if request.metadata_filter is None else condition_of(request.metadata_filter)
    async with database.transaction() as connection:
        collection = await collections.get(connection, request.collection)
        require_loaded(collection, engine)
        decision = await deciding.in_gallery(connection, collection, request.asked)
    observation = require_observation((await engine.observe([image]))[0], "/image")
    if image.choice is FaceChoice.ALL and observation.faces:
        faces = observation.faces
    else:
        faces = [subject_face(image, observation, "/image")]
    started = time.perf_counter()
    async with database.transaction() as connection:
        matches = [
            FaceMatches(
                face,
                await nearest(
                    connection, collection.id, engine.model_id, face.embedding, request.top_k, among, request.explain
                ),
            )
            for face in faces
        ]
    elapsed_ms = (time.perf_counter() - started) * 1000
    return Identification(matches, observation.detections, decision, elapsed_ms)
