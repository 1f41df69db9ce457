"""Follows faces from frame to frame, and fuses the embeddings of each one.

A decision about one frame depends on its blur, pose and light. The mean of the embeddings of a face over several frames
depends less on them, so decisions are made for tracks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import supervision
from trackers import ByteTrackTracker

Vector = npt.NDArray[np.float32]
Box = tuple[float, float, float, float]
"""x_min, y_min, x_max, y_max in pixels."""

LOST_AFTER_S = 1.0
"""Time without a detection after which a track ends."""
MIN_DETECTION_SCORE = 0.5
"""Detection score that a face needs to start a track; a track continues with lower ones."""
MIN_QUALITY = 0.05
FRAME_RATE = 30.0
"""Frames per second to which the parameters of ByteTrack refer."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """A face in one frame. `embedding`: (dim,), of length one. `quality`: 0 to 1, or None."""

    box: Box
    detection_score: float
    quality: float | None
    embedding: Vector


@dataclass(eq=False, slots=True)
class Track:
    """One face over several frames.

    Attributes:
        number: of the track, from 1.
        first_at, last_at: times of the first and the last sighting in seconds.
        sightings: number of sightings.
        last: the latest sighting.
    """

    number: int
    first_at: float
    last_at: float
    last: Sighting
    sightings: int = 0
    _sum: Vector = field(init=False)

    def __post_init__(self) -> None:
        self._sum = np.zeros_like(self.last.embedding)

    def add(self, sighting: Sighting, at: float) -> None:
        weight = sighting.detection_score if sighting.quality is None else max(sighting.quality, MIN_QUALITY)
        self._sum += weight * sighting.embedding
        self.last, self.last_at, self.sightings = sighting, at, self.sightings + 1

    @property
    def embedding(self) -> Vector:
        """The mean of the embeddings, weighted by quality, of length one."""
        return self._sum / np.linalg.norm(self._sum)


@dataclass(frozen=True, slots=True)
class Tracked:
    """Result of one frame.

    Attributes:
        visible: the track of each face, in the order of the faces; None for a face without a track.
        started, ended: tracks that start or end with this frame.
    """

    visible: list[Track | None]
    started: list[Track]
    ended: list[Track]


class FaceTracker:
    """Assigns the faces of each frame to tracks, with ByteTrack (Zhang et al., ECCV 2022).

    Args:
        lost_after_s: time without a detection after which a track ends.
        same_person: cosine similarity between a face and its track below which the face starts a track of its own:
            ByteTrack compares positions only, and confuses persons who pass each other. None: never.
    """

    def __init__(self, lost_after_s: float = LOST_AFTER_S, same_person: float | None = None) -> None:
        self._lost_after_s, self._same_person = lost_after_s, same_person
        self._matcher = ByteTrackTracker(
            lost_track_buffer=round(lost_after_s * FRAME_RATE),
            frame_rate=FRAME_RATE,
            track_activation_threshold=MIN_DETECTION_SCORE,
            minimum_consecutive_frames=1,
            high_conf_det_threshold=MIN_DETECTION_SCORE,
        )
        self._tracks: dict[int, Track] = {}
        self._count = 0

    def update(self, faces: Sequence[Sighting], at: float) -> Tracked:
        """Assigns the faces of the frame that was taken `at` seconds; times must increase."""
        started: list[Track] = []
        ended: list[Track] = []
        visible: list[Track | None] = []
        for key, face in zip(self._match(faces, at), faces, strict=True):
            if key < 0:
                visible.append(None)
                continue
            track = self._tracks.get(key)
            if track is not None and self._is_other_person(track, face):
                ended.append(track)
                track = None
            if track is None:
                self._count += 1
                track = self._tracks[key] = Track(self._count, at, at, face)
                started.append(track)
            track.add(face, at)
            visible.append(track)
        return Tracked(visible, started, ended + self._end(at))

    def end_all(self) -> list[Track]:
        """Ends all tracks and returns them."""
        tracks = list(self._tracks.values())
        self._tracks.clear()
        self._matcher.reset()
        return tracks

    def _match(self, faces: Sequence[Sighting], at: float) -> list[int]:
        """Returns a key of a track for each face; -1 for a face without a track."""
        detections = supervision.Detections(
            xyxy=np.array([face.box for face in faces], np.float32).reshape(-1, 4),
            confidence=np.array([face.detection_score for face in faces], np.float32),
            data={"number": np.arange(len(faces))},
        )
        matched = self._matcher.update(detections, timestamp=at)
        keys = [-1] * len(faces)
        if matched.tracker_id is not None:
            for number, key in zip(matched.data.get("number", ()), matched.tracker_id, strict=True):
                keys[int(number)] = int(key)
        return keys

    def _is_other_person(self, track: Track, face: Sighting) -> bool:
        return self._same_person is not None and float(track.embedding @ face.embedding) < self._same_person

    def _end(self, at: float) -> list[Track]:
        """Removes the tracks that have not been seen for too long."""
        old = {key: track for key, track in self._tracks.items() if at - track.last_at > self._lost_after_s}
        for key in old:
            del self._tracks[key]
        return list(old.values())
