"""Events about the tracks of a camera. They contain no picture and no embedding."""

import uuid
from datetime import UTC, datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from identity_registry.responses.identification import Candidate
from service.live.recognition import Recognised


class Kind(StrEnum):
    """What has happened.

    Attributes:
        APPEARED: a face has come into view.
        IDENTIFIED: a search has matched the face with an identity, or with another one than before.
        UNKNOWN: no identity matches the face.
        ENROLLED: the unknown face was enrolled as a new identity.
        LEFT: the face is out of view.
        CAMERA_LOST: the camera gives no frames; the program tries to reach it again.
    """

    APPEARED = "appeared"
    IDENTIFIED = "identified"
    UNKNOWN = "unknown"
    ENROLLED = "enrolled"
    LEFT = "left"
    CAMERA_LOST = "camera_lost"


class Similar(BaseModel):
    """An enrolled identity that is similar to the face."""

    identity_id: uuid.UUID
    external_id: str
    label: str
    score: float
    threshold: float | None
    match: bool

    @classmethod
    def of(cls, candidate: Candidate) -> "Similar":
        names = ("identity_id", "external_id", "label", "threshold", "match")
        return cls(score=round(candidate.score, 4), **{name: getattr(candidate, name) for name in names})


class Event(BaseModel):
    """One event; one JSON line of `live`.

    Attributes:
        at: time of the event, UTC.
        video_s: time in the video or since the start, in seconds.
        camera: name of the camera.
        track: number of the track, from 1.
        box: x_min, y_min, x_max, y_max in pixels.
        identity: the identity that matches.
        candidates: the most similar identities, if more than one was asked for.
        duration_s, sightings: time and number of frames in which the face was visible.
    """

    model_config = ConfigDict(frozen=True)

    at: datetime = Field(default_factory=lambda: datetime.now(UTC))
    video_s: float
    camera: str
    event: Kind
    track: int | None = None
    box: list[float] | None = None
    identity: Similar | None = None
    candidates: list[Similar] | None = None
    enrolled_id: uuid.UUID | None = None
    duration_s: float | None = None
    sightings: int | None = None

    def line(self) -> str:
        """Returns the event as one line of JSON without absent values."""
        return self.model_dump_json(exclude_none=True)


def about(face: Recognised, kind: Kind, camera: str, at: float) -> Event:
    """Returns an event about a track."""
    track, values = face.track, dict[str, object]()
    if kind is Kind.LEFT:
        values |= {"duration_s": round(track.last_at - track.first_at, 3), "sightings": track.sightings}
    if face.match is not None and kind in {Kind.IDENTIFIED, Kind.LEFT}:
        values["identity"] = Similar.of(face.match)
    if len(face.candidates) > 1 and kind in {Kind.IDENTIFIED, Kind.UNKNOWN}:
        values["candidates"] = [Similar.of(candidate) for candidate in face.candidates]
    box = [round(side, 1) for side in track.last.box]
    return Event.model_validate(
        {"video_s": round(at, 3), "camera": camera, "event": kind, "track": track.number, "box": box} | values
    )
