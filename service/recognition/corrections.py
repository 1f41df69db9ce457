"""Stores, lists and deletes corrections: faces that do not show an identity."""

import uuid
from dataclasses import dataclass

from service.gallery.access.audit_entries import Action, Actor, Event
from service.gallery.access.audit_trail import AuditTrail
from service.gallery.people import corrections, crops, identities
from service.gallery.people.collections import Collection, ModelsChangedError
from service.gallery.people.corrections import Correction
from service.gallery.people.crop_cipher import CropCipher
from service.gallery.storage.database import Database
from service.gallery.storage.paging import PageCursor
from service.inference.engine import Engine, Face, Sample
from service.recognition import samples
from service.recognition.collection_access import in_collection


@dataclass(frozen=True, slots=True)
class NewCorrection:
    """A request to store a correction. `sample`: the face that does not show the identity."""

    collection: str
    identity_id: uuid.UUID
    sample: Sample
    actor: Actor


@dataclass(frozen=True)
class Corrector:
    """The use cases of corrections. `crop_cipher`: None: crops cannot be stored."""

    database: Database
    engine: Engine
    audit_trail: AuditTrail
    crop_cipher: CropCipher | None = None

    async def correct(self, request: NewCorrection) -> Correction:
        """Stores the face's embedding under both models, and its crop if the collection stores crops.

        Raises:
            CollectionNotFound, IdentityNotFound, ModelNotLoaded, RegistryError
        """
        return await samples.retry_on_model_change(lambda: self._correct(request))

    async def page(
        self, collection: str, identity_id: uuid.UUID, limit: int, after: PageCursor | None
    ) -> list[Correction]:
        """Returns up to `limit` corrections of an identity, oldest first. Raises IdentityNotFound."""
        async with in_collection(self.database, collection) as (connection, current):
            await identities.get(connection, current.id, identity_id)
            return await corrections.page(connection, current.id, identity_id, current.model_id, limit, after)

    async def remove(self, collection: str, identity_id: uuid.UUID, correction_id: uuid.UUID, actor: Actor) -> None:
        """Deletes a correction under every model, and its crop. Raises CorrectionNotFound."""
        async with in_collection(self.database, collection) as (connection, current):
            await corrections.remove(connection, current.id, identity_id, correction_id)
            event = Event(Action.CORRECT, actor, identity_id, {"taken_back": str(correction_id)})
            await self.audit_trail.append(connection, current.id, [event])

    async def _correct(self, request: NewCorrection) -> Correction:
        async with in_collection(self.database, request.collection) as (connection, collection):
            samples.require_loaded(collection, self.engine)
            await identities.get(connection, collection.id, request.identity_id)
        secondary = samples.secondary_model_of(collection, self.engine)
        keep_crop = collection.store_crops or secondary is not None
        [result] = await samples.observe(self.engine, [request.sample], collection.model_id, keep_crop)
        face = samples.subject_face(request.sample, result, "/image")
        faces = {collection.model_id: face}
        if secondary is not None and face.crop is not None:
            [embedded] = await samples.re_embed(self.engine, [face.crop], secondary)
            faces |= {secondary: embedded} if isinstance(embedded, Face) else {}
        return await self._store(collection, request, faces)

    async def _store(self, observed: Collection, request: NewCorrection, faces: dict[str, Face]) -> Correction:
        face = faces[observed.model_id]
        source = corrections.source_of((await samples.source_hashes([request.sample], [face]))[0])
        async with in_collection(self.database, request.collection, lock="share") as (connection, collection):
            if (collection.id, collection.models) != (observed.id, observed.models):
                raise ModelsChangedError
            await identities.lock(connection, collection.id, request.identity_id)
            embeddings = {model_id: embedded.embedding for model_id, embedded in faces.items()}
            scope = connection, collection.id, request.identity_id
            [correction, *_] = await corrections.add(*scope, embeddings, source)
            if collection.store_crops and self.crop_cipher is not None and face.crop is not None:
                await crops.store(*scope, {source: self.crop_cipher.encrypt(face.crop, source)})
            event = Event(Action.CORRECT, request.actor, request.identity_id, {"correction": str(correction.id)})
            await self.audit_trail.append(connection, collection.id, [event])
        return correction
