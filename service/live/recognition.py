"""Recognises the faces of a camera with a registry, through its public client.

Each frame needs one request that detects and embeds the faces. A search is made per track and not per frame: when a
track has enough sightings, and again each time their number has doubled.
"""

from dataclasses import dataclass, field

import cv2
import numpy as np

from identity_registry import Registry
from identity_registry.errors import CalibrationNotFound, NoFace, NotAllowed
from identity_registry.inputs import DEFAULT_COLLECTION
from identity_registry.responses.identification import Candidate
from identity_registry.responses.recognition import EmbeddedFace
from service.live.tracks import Box, FaceTracker, Sighting, Track
from service.vision.image import Pixels

JPEG_QUALITY = 90
FIRST_DECISION = 3
"""Sightings of a track before its first search."""
MAX_DECISIONS = 6
"""Searches of one track: after 3, 6, 12, 24, 48 and 96 sightings."""
SAME_PERSON_FMR = 0.1
"""A face that is less similar to its track than nine of ten strangers are shows another person."""


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """How searches decide: at most one of the rates and the threshold; None: the default of the collection."""

    fmr: float | None = None
    fpir: float | None = None
    threshold: float | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """A frame as JPEG, and the box and the quality of one of its faces."""

    jpeg: bytes
    box: Box
    quality: float


@dataclass(eq=False, slots=True)
class Recognised:
    """A track with the latest decision about it.

    Attributes:
        sample: the frame in which the face has the best quality so far.
        match: the identity that the face belongs to; None if there is none, or no decision yet.
        candidates: the most similar identities, highest score first.
        decisions: number of searches.
    """

    track: Track
    sample: Sample
    match: Candidate | None = None
    candidates: list[Candidate] = field(default_factory=list)
    decisions: int = 0

    @property
    def is_decided(self) -> bool:
        return self.decisions > 0

    @property
    def is_due(self) -> bool:
        return self.decisions < MAX_DECISIONS and self.track.sightings >= FIRST_DECISION * 2**self.decisions


@dataclass(frozen=True, slots=True)
class Frame:
    """Result of one frame.

    Attributes:
        faces: the tracks that are visible, each with its latest decision.
        started, ended: those that start or end with this frame.
        decided: those whose match this frame has changed, or whose first decision it has brought.
    """

    faces: list[Recognised]
    started: list[Recognised]
    decided: list[Recognised]
    ended: list[Recognised]


class LiveRecognition:
    """Recognises faces in the frames of one camera.

    Args:
        registry: client of the registry. Its methods raise RegistryError, and so do those of this class.
        top_k: candidates of each search.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        collection: str = DEFAULT_COLLECTION,
        point: OperatingPoint = OperatingPoint(),
        top_k: int = 1,
    ) -> None:
        self._registry, self._collection = registry, collection
        self._point, self._top_k = point, top_k
        self._model_id = _model_of(registry, collection)
        self._tracker = FaceTracker(same_person=_same_person_threshold(registry, self._model_id))
        self._recognised: dict[int, Recognised] = {}

    def see(self, pixels: Pixels, at: float) -> Frame:
        """Recognises the faces of a frame, (height, width, 3) RGB, that was taken `at` seconds."""
        jpeg = _jpeg(pixels)
        tracked = self._tracker.update([_sighting(face) for face in self._embed(jpeg)], at)
        for track in tracked.started:
            self._recognised[track.number] = Recognised(track, _sample(jpeg, track))
        started = [self._recognised[track.number] for track in tracked.started]
        faces = [self._recognised[track.number] for track in tracked.visible if track is not None]
        for face in faces:
            face.sample = max(face.sample, _sample(jpeg, face.track), key=lambda sample: sample.quality)
        decided = [face for face in faces if face.is_due and self._decide(face)]
        return Frame(faces, started, decided, self._forget(tracked.ended))

    def end(self) -> list[Recognised]:
        """Ends all tracks, when the camera is lost."""
        return self._forget(self._tracker.end_all())

    def decide_again(self, number: int) -> None:
        """Searches for a track again, because an identity was enrolled."""
        if (face := self._recognised.get(number)) is not None:
            face.decisions = 0

    def enrol(self, face: Recognised, external_id: str, label: str | None = None) -> str:
        """Enrols the best picture of a face as a new identity, or adds it to one. Returns the id of the identity."""
        response = self._registry.register(
            label,
            face.sample.jpeg,
            collection=self._collection,
            external_id=external_id,
            face="box",
            boxes=[face.sample.box],
        )
        self.decide_again(face.track.number)
        return str(response.identity_id)

    def _embed(self, jpeg: bytes) -> list[EmbeddedFace]:
        try:
            response = self._registry.embed(jpeg, collection=self._collection, model_id=self._model_id, face="all")
        except NoFace:
            return []
        return response.faces

    def _decide(self, face: Recognised) -> bool:
        """Searches for a track. Returns True if this is the first decision or another one than before."""
        response = self._registry.search(
            collection=self._collection,
            embedding=face.track.embedding.tolist(),
            model_id=self._model_id,
            top_k=self._top_k,
            fmr=self._point.fmr,
            fpir=self._point.fpir,
            threshold=self._point.threshold,
        )
        before, is_first = face.match, not face.is_decided
        face.candidates = response.results[0].candidates
        face.match = next((candidate for candidate in face.candidates if candidate.match), None)
        face.decisions += 1
        return is_first or _identity_of(before) != _identity_of(face.match)

    def _forget(self, tracks: list[Track]) -> list[Recognised]:
        return [self._recognised.pop(track.number) for track in tracks]


def _model_of(registry: Registry, collection: str) -> str:
    """Returns the model of a collection; the main model of the service if the key may not read collections."""
    try:
        return registry.read_collection(collection).model_id
    except NotAllowed:
        return next(iter(registry.list_models())).id


def _jpeg(pixels: Pixels) -> bytes:
    _, encoded = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return encoded.tobytes()


def _sample(jpeg: bytes, track: Track) -> Sample:
    return Sample(jpeg, track.last.box, track.last.quality or 0.0)


def _identity_of(candidate: Candidate | None) -> object:
    return None if candidate is None else candidate.identity_id


def _sighting(face: EmbeddedFace) -> Sighting:
    embedding = np.asarray(face.vector, np.float32)
    return Sighting(face.face.box, face.face.detection_score, face.face.quality, embedding)


def _same_person_threshold(registry: Registry, model_id: str) -> float | None:
    """Returns the similarity below which a face and its track show two persons; None without a calibration."""
    try:
        points = registry.read_calibration(model_id).calibration.points
    except CalibrationNotFound:
        return None
    return min(points, key=lambda point: abs(point.fmr - SAME_PERSON_FMR)).threshold
