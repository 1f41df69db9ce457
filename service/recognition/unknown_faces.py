"""Enrols the faces of unknown people: each becomes an identity without a name."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from service.errors import Conflict, InvalidRequest, RegistryError
from service.gallery.access.audit_entries import Actor
from service.gallery.people.collections import ModelsChangedError
from service.gallery.people.identities import Identity
from service.inference.engine import Face, FaceChoice, Observation, Picture, Sample
from service.recognition import samples
from service.recognition.enrolment import Enroller
from service.recognition.enrolment_records import Enrolment, EnrolmentRequest
from service.recognition.identification import FaceMatches, Identification, IdentificationRequest


@dataclass(frozen=True, slots=True)
class UnknownPicture:
    """A picture of which every face is enrolled.

    Attributes:
        id: the ids of its identities derive from it, so that a second attempt enrols no face twice.
        name: the file's name, which the identities get as the metadata field `picture`.
    """

    id: uuid.UUID
    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class EnrolledPicture:
    """The result for one picture: its enrolments, and the errors of the faces that were refused."""

    enrolments: list[Enrolment]
    refused: list[RegistryError]


@dataclass(frozen=True, slots=True)
class Remembered:
    """The identity that was created for a probe; None: `refused` is the reason why none was."""

    identity: Identity | None
    refused: RegistryError | None = None


@dataclass(frozen=True)
class UnknownFaces:
    """The use case of enrolling faces without names."""

    enroller: Enroller

    async def enrol(
        self, collection: str, pictures: Sequence[UnknownPicture], actor: Actor
    ) -> list[EnrolledPicture | RegistryError]:
        """Enrols every face of pictures in the background. Returns one result or error for each picture.

        Raises:
            CollectionNotFound, ModelNotLoaded, Conflict, Unavailable
        """
        return await samples.retry_on_model_change(lambda: self._enrol(collection, pictures, actor))

    async def _enrol(
        self, name: str, pictures: Sequence[UnknownPicture], actor: Actor
    ) -> list[EnrolledPicture | RegistryError]:
        collection, _ = await self.enroller.store.begin(name, None)
        samples.require_loaded(collection, self.enroller.engine)
        sent = [Picture(picture.data, FaceChoice.ALL, background=True) for picture in pictures]
        observed = await samples.observe(self.enroller.engine, sent, collection.model_id, keep_crops=True)
        results: list[EnrolledPicture | RegistryError] = []
        for picture, sample, result in zip(pictures, sent, observed, strict=True):
            if isinstance(result, Observation) and result.faces:
                requests = [_request(name, picture, sample, index, actor) for index in range(len(result.faces))]
                results.append(await self._store(requests, result.faces, collection.model_id))
            else:
                results.append(result if isinstance(result, RegistryError) else samples.no_face(result))
        return results

    async def _store(
        self, requests: Sequence[EnrolmentRequest], faces: Sequence[Face], model_id: str
    ) -> EnrolledPicture:
        stored = EnrolledPicture([], [])
        for request, face in zip(requests, faces, strict=True):
            try:
                stored.enrolments.append(await self.enroller.enrol_faces(request, [face], model_id))
            except InvalidRequest as error:  # the quality of the face is insufficient
                stored.refused.append(error)
        return stored

    async def remember(self, request: IdentificationRequest, found: Identification) -> list[Remembered | None]:
        """Enrols the faces of probes that match no identity. Returns one result for each probe; None: it matches.

        Raises:
            CollectionNotFound, DatabaseUnavailable
        """
        return [
            None
            if matches.first_match(found.decision) is not None
            else await self._remember(request, matches, found.model_id)
            for matches in found.matches
        ]

    async def _remember(self, request: IdentificationRequest, matches: FaceMatches, model_id: str) -> Remembered:
        sent = list(request.samples)
        enrolment = new_request(request.collection, sent, uuid.uuid4(), None, request.actor)
        try:
            return Remembered((await self.enroller.enrol_faces(enrolment, matches.faces, model_id)).identity)
        except InvalidRequest as error:
            return Remembered(None, error)
        except ModelsChangedError:
            return Remembered(None, Conflict("the collection's model changed during the request; send it again"))


def new_request(
    collection: str, sent: Sequence[Sample], number: uuid.UUID, metadata: dict[str, Any] | None, actor: Actor
) -> EnrolmentRequest:
    """Returns the request to enrol an unknown person. `number`: makes the external id unique."""
    name = f"unnamed-{number}"
    return EnrolmentRequest(collection, name, None, metadata, sent, may_manage=True, named=False, actor=actor)


def _request(collection: str, picture: UnknownPicture, sample: Sample, face: int, actor: Actor) -> EnrolmentRequest:
    number = uuid.uuid5(picture.id, str(face))
    return new_request(collection, [sample], number, {"picture": picture.name}, actor)
