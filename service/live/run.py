"""Recognises the faces of one camera until it ends, and reports the events."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from identity_registry.errors import RegistryError
from service.live.camera import Camera, CameraFrame
from service.live.events import Event, Kind, about
from service.live.labels import annotated
from service.live.recognition import LiveRecognition, Recognised
from service.live.window import Window

ENROLLED_AFTER = 3
"""Searches without a match after which an unknown face is enrolled. The third one follows twelve sightings."""
Report = Callable[[Event], None]


@dataclass(frozen=True)
class LiveOptions:
    """What to do with the faces of a camera.

    Attributes:
        enrol_unknown: enrol faces that match no identity as new identities.
        window: show the frames.
        show_similarity: add the scores to the names in the window.
    """

    enrol_unknown: bool = False
    window: bool = False
    show_similarity: bool = False


def run(
    camera: Camera,
    recognition: LiveRecognition,
    options: LiveOptions,
    report: Report,
    warn: Callable[[RegistryError], None],
) -> None:
    """Processes a camera until its end, until `camera.stop` is called or the window is closed.

    Args:
        report: called with each event.
        warn: called with the error of a frame or an enrolment that the registry has refused.

    Raises:
        StartupError: the camera cannot be read at first, or no window can be opened.
    """
    reporter = _Reporter(camera.name, recognition, report)
    window = Window() if options.window else None
    try:
        for frame in camera.frames():
            if frame is None:
                reporter.lose_camera()
                continue
            try:
                faces = reporter.process(frame)
            except RegistryError as error:
                warn(error)
                continue
            if options.enrol_unknown:
                reporter.enrol_unknown(faces, warn)
            if window is not None:
                window.show(annotated(frame.pixels, faces, options.show_similarity))
                if not window.is_open:
                    break
    finally:
        reporter.end()
        if window is not None:
            window.close()


class _Reporter:
    """Turns the results of frames into events."""

    def __init__(self, camera: str, recognition: LiveRecognition, report: Report) -> None:
        self._camera, self._recognition, self._report = camera, recognition, report
        self._refused: set[int] = set()
        self._at = 0.0

    def process(self, frame: CameraFrame) -> list[Recognised]:
        """Recognises a frame and reports its events. Returns the visible faces. Raises RegistryError."""
        self._at = frame.at
        seen = self._recognition.see(frame.pixels, frame.at)
        for face in seen.started:
            self._report(self._about(face, Kind.APPEARED))
        for face in seen.decided:
            self._report(self._about(face, Kind.UNKNOWN if face.match is None else Kind.IDENTIFIED))
        for face in seen.ended:
            self._report(self._about(face, Kind.LEFT))
        return seen.faces

    def enrol_unknown(self, faces: list[Recognised], warn: Callable[[RegistryError], None]) -> None:
        """Enrols the faces that several searches have matched with nobody, each once."""
        for face in faces:
            if face.match is None and face.decisions >= ENROLLED_AFTER and face.track.number not in self._refused:
                try:
                    self._enrol(face)
                except RegistryError as error:
                    self._refused.add(face.track.number)
                    warn(error)

    def _enrol(self, face: Recognised) -> None:
        label = f"Unknown {datetime.now(UTC):%Y-%m-%d %H:%M:%S}"
        identity_id = self._recognition.enrol(face, f"unknown-{uuid.uuid4()}", label)
        self._report(self._about(face, Kind.ENROLLED).model_copy(update={"enrolled_id": uuid.UUID(identity_id)}))

    def lose_camera(self) -> None:
        self.end()
        self._report(Event(video_s=round(self._at, 3), camera=self._camera, event=Kind.CAMERA_LOST))

    def end(self) -> None:
        """Reports that all faces have left."""
        for face in self._recognition.end():
            self._report(self._about(face, Kind.LEFT))

    def _about(self, face: Recognised, kind: Kind) -> Event:
        return about(face, kind, self._camera, self._at)
