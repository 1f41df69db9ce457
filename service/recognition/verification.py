"""1:1: are these two the same person?"""

import uuid
from dataclasses import dataclass

import numpy as np

from service.errors import IdentityNotFound
from service.gallery.people import collections, corrections, identities, templates
from service.gallery.storage.database import Database
from service.inference.engine import Engine, Face, Picture
from service.recognition.decision import Decision, OperatingPoint, Rate
from service.recognition.decision_resolver import DecisionResolver
from service.recognition.model_change import ModelsChangedError, require_loaded, retry_on_model_change
from service.recognition.observation import look
from service.recognition.subject import subject_face


@dataclass(frozen=True, slots=True)
class Verification:
    """`face_b` is None where the probe was compared with an enrolled identity.

    `threshold` and `fmr` are those of this comparison: with all templates of an identity. `corrected`: somebody said of
    a face nearer to the probe that it is not this person's.
    """

    match: bool
    score: float
    threshold: float
    fmr: Rate | None
    decision: Decision
    model_id: str
    face_a: Face
    face_b: Face | None = None
    identity: identities.Identity | None = None
    corrected: bool = False


@dataclass(frozen=True, slots=True)
class IdentityReference:
    """An enrolled identity by its id or by its external id."""

    collection: str
    identity_id: uuid.UUID | None
    external_id: str | None


async def verify_images(
    engine: Engine, decision: Decision, model_id: str, image_a: Picture, image_b: Picture
) -> Verification:
    """Compare the chosen faces of two pictures by a model. Nothing is stored, and no database is needed.

    Raises:
        RegistryError: about the picture that its pointer names.
    """
    faces = []
    results = await look(engine, [image_a, image_b], model_id)
    for image, result, pointer in zip((image_a, image_b), results, ("/image_a", "/image_b"), strict=True):
        faces.append(subject_face(image, result, pointer))
    score = float(np.dot(faces[0].embedding, faces[1].embedding))
    match = decision.accepts(score)
    return Verification(match, score, decision.threshold, decision.fmr, decision, model_id, faces[0], faces[1])


async def verify_identity(
    database: Database,
    engine: Engine,
    resolver: DecisionResolver,
    asked: OperatingPoint | None,
    image: Picture,
    reference: IdentityReference,
) -> Verification:
    """Compare a probe with the nearest template of an enrolled identity.

    Raises:
        CollectionNotFound, IdentityNotFound, ModelNotLoaded, FmrNotCalibrated, RegistryError
    """
    return await retry_on_model_change(lambda: _verify_identity(database, engine, resolver, asked, image, reference))


async def _verify_identity(
    database: Database,
    engine: Engine,
    resolver: DecisionResolver,
    asked: OperatingPoint | None,
    image: Picture,
    reference: IdentityReference,
) -> Verification:
    async with database.transaction() as connection:
        collection = await collections.get(connection, reference.collection)
        require_loaded(collection, engine)
        decision = await resolver.for_gallery(connection, collection, asked)
    model_id = collection.model_id
    face = subject_face(image, (await look(engine, [image], model_id))[0], "/image_a")
    async with database.transaction() as connection:
        if (await collections.get(connection, reference.collection)).model_id != model_id:
            raise ModelsChangedError
        if reference.identity_id is not None:
            identity = await identities.get(connection, collection.id, reference.identity_id)
        else:
            identity = await identities.get_by_external_id(connection, collection.id, reference.external_id or "")
        best = await templates.best_score(connection, collection.id, identity.id, model_id, face.embedding)
        counter = await corrections.nearest_score(connection, collection.id, identity.id, model_id, face.embedding)
    if best is None:
        raise IdentityNotFound(f"identity {identity.id} has no template of model {model_id!r}")
    score, count = best
    threshold = decision.threshold_at(score, count)
    fmr = decision.fmr_against(count)
    corrected = corrections.overrules(counter, score)
    match = score >= threshold and not corrected
    return Verification(match, score, threshold, fmr, decision, model_id, face, identity=identity, corrected=corrected)
