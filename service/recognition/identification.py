"""1:N: who is this?"""

import time
from dataclasses import dataclass

from service.gallery import collections
from service.gallery.database import Database
from service.gallery.search import Candidate, Plan, nearest
from service.inference.engine import Detection, Engine, Face, FaceChoice, ImageInput
from service.recognition.deciding import Deciding
from service.recognition.decision import Decision, OperatingPoint
from service.recognition.enrolment import require_loaded
from service.recognition.subject import require_observation, subject_face


@dataclass(frozen=True, slots=True)
class FaceMatches:
    """A face of the probe and the enrolled people nearest to it, best first."""

    face: Face
    candidates: list[Candidate]


@dataclass(frozen=True, slots=True)
class Identification:
    matches: list[FaceMatches]
    detections: list[Detection]
    decision: Decision
    plan: Plan
    search_ms: float


async def identify(
    database: Database,
    engine: Engine,
    deciding: Deciding,
    asked: OperatingPoint | None,
    collection_name: str,
    image: ImageInput,
    top_k: int,
) -> Identification:
    """The nearest identities of the chosen face, or of every face.

    Raises:
        CollectionNotFound, ModelNotLoaded, FmrNotCalibrated, NoFace, SeveralFaces, RegistryError
    """
    async with database.transaction() as connection:
        collection = await collections.get(connection, collection_name)
        require_loaded(collection, engine)
        decision = await deciding.in_gallery(connection, collection, asked)
    observation = require_observation((await engine.observe([image]))[0], "/image")
    if image.choice is FaceChoice.ALL and observation.faces:
        faces = observation.faces
    else:
        faces = [subject_face(image, observation, "/image")]
    matches: list[FaceMatches] = []
    plan = Plan.EXACT
    started = time.perf_counter()
    async with database.transaction() as connection:
        for face in faces:
            candidates, plan = await nearest(connection, collection.id, engine.model_id, face.embedding, top_k)
            matches.append(FaceMatches(face, candidates))
    elapsed_ms = (time.perf_counter() - started) * 1000
    return Identification(matches, observation.detections, decision, plan, elapsed_ms)
