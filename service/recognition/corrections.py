"""Saying of a face that it is not an enrolled person's."""

import uuid
from dataclasses import dataclass

from service.gallery.access.audit import Action, Actor, Event, AuditTrail
from service.gallery.people import collections, corrections, crops, identities
from service.gallery.people.collections import Collection
from service.gallery.people.corrections import Correction
from service.gallery.people.crops import CropCipher
from service.gallery.storage.database import Database
from service.inference.engine import Engine, Face, Picture
from service.recognition.enrolment import source_hash
from service.recognition.model_change import ModelsChangedError, require_loaded, secondary_model_of, retry_on_model_change
from service.recognition.observation import look, look_again
from service.recognition.subject import subject_face


@dataclass(frozen=True, slots=True)
class NewCorrection:
    """`image`: shows the face that is not the person's."""

    collection: str
    identity_id: uuid.UUID
    image: Picture
    actor: Actor


@dataclass(frozen=True)
class Corrector:
    database: Database
    engine: Engine
    trail: AuditTrail
    crop_cipher: CropCipher | None = None

    async def correct(self, request: NewCorrection) -> Correction:
        """Keep the face's embedding, under the standby model as well; its crop where the collection keeps some.

        Raises:
            CollectionNotFound, IdentityNotFound, ModelNotLoaded, RegistryError
        """
        return await retry_on_model_change(lambda: self._correct(request))

    async def _correct(self, request: NewCorrection) -> Correction:
        async with self.database.transaction() as connection:
            collection = await collections.get(connection, request.collection)
            require_loaded(collection, self.engine)
            await identities.get(connection, collection.id, request.identity_id)
        secondary = secondary_model_of(collection, self.engine)
        keep_crop = collection.store_crops or secondary is not None
        [seen] = await look(self.engine, [request.image], collection.model_id, keep_crop)
        face = subject_face(request.image, seen, "/image")
        faces = {collection.model_id: face}
        if secondary is not None and face.crop is not None:
            [again] = await look_again(self.engine, [face.crop], secondary)
            faces |= {secondary: again} if isinstance(again, Face) else {}
        return await self._store(collection, request, faces)

    async def _store(self, before: Collection, request: NewCorrection, faces: dict[str, Face]) -> Correction:
        face = faces[before.model_id]
        source = corrections.source_of(source_hash(request.image.data, face.detection.box))
        async with self.database.transaction() as connection:
            collection = await collections.get_held(connection, request.collection)
            if collection.models != before.models:
                raise ModelsChangedError
            await identities.lock(connection, collection.id, request.identity_id)
            made = [
                await corrections.add(connection, collection.id, request.identity_id, model_id, seen.embedding, source)
                for model_id, seen in faces.items()
            ]
            if collection.store_crops and self.crop_cipher is not None and face.crop is not None:
                files = {source: face.crop}
                await crops.keep(connection, self.crop_cipher, collection.id, request.identity_id, files)
            details = {"correction": str(made[0].id)}
            event = Event(Action.CORRECT, request.actor, request.identity_id, details)
            await self.trail.append(connection, collection.id, [event])
        return made[0]
