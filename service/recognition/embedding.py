"""Embeds the faces of a picture for clients that compare them elsewhere."""

from dataclasses import dataclass

from service.gallery.access.audit_entries import Action, Actor, Event
from service.inference.engine import Engine, FaceChoice, Observation, Picture
from service.recognition import samples
from service.recognition.decision import DecisionResolver
from service.recognition.read_audit import ReadAuditBuffer


@dataclass(frozen=True)
class Embedder:
    """The use case of embedding."""

    engine: Engine
    resolver: DecisionResolver
    read_audit: ReadAuditBuffer

    async def embed(self, picture: Picture, collection: str, actor: Actor) -> Observation:
        """Returns the picture's faces with their embeddings. Nothing is stored except an audit event.

        Args:
            collection: the collection whose audit trail records the event.

        Raises:
            ModelNotLoaded, NoFace, SeveralFaces, RegistryError
        """
        if picture.model_id is not None:
            self.resolver.policy_of(picture.model_id)
        [result] = await self.engine.observe([picture])
        if picture.choice is not FaceChoice.ALL:
            samples.subject_face(picture, result, "/image")
        observation = samples.require_observation(result, "/image")
        event = Event(Action.EMBED, actor, details={"faces": len(observation.faces)})
        self.read_audit.record(collection, event)
        return observation
