"""Classifies faces among a closed set of people."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from service.errors import NoClassifier
from service.gallery.access.audit_entries import Action, Actor, Event
from service.inference.classifier import Classifier
from service.inference.engine import Engine, FaceChoice, Observation, Picture
from service.recognition import samples
from service.recognition.picture_urls import fetch
from service.recognition.read_audit import ReadAuditBuffer


@dataclass(frozen=True)
class ClassifierSetup:
    """The configured classifier, and the hosts from which pictures may be fetched."""

    classifier: Classifier
    allowed_url_hosts: Sequence[str]
    max_image_bytes: int


@dataclass(frozen=True)
class Predictor:
    """The use case of prediction. `setup`: None: no classifier is configured."""

    setup: ClassifierSetup | None
    engine: Engine
    read_audit: ReadAuditBuffer

    async def predict(
        self, picture: Picture, url: str | None, collection: str, actor: Actor
    ) -> tuple[Observation, Classifier]:
        """Returns the picture's faces, and the classifier. Nothing is stored except an audit event.

        Args:
            url: URL of the picture; None: `picture` contains the picture's bytes.
            collection: the collection whose audit trail records the event.

        Raises:
            NoClassifier, UrlNotAllowed, UrlUnreachable, NoFace, SeveralFaces, RegistryError
        """
        if self.setup is None:
            raise NoClassifier("no classifier is configured; `identity-trainer classifier fit` creates one")
        pointer = "/image"
        if url is not None:
            data = await fetch(url, self.setup.allowed_url_hosts, self.setup.max_image_bytes)
            picture, pointer = replace(picture, data=data), "/url"
        picture = replace(picture, model_id=self.setup.classifier.manifest.embedder)
        [result] = await self.engine.observe([picture])
        if picture.choice is not FaceChoice.ALL:
            samples.subject_face(picture, result, pointer)
        observation = samples.require_observation(result, pointer)
        event = Event(Action.PREDICT, actor, details={"faces": len(observation.faces)})
        self.read_audit.record(collection, event)
        return observation, self.setup.classifier
