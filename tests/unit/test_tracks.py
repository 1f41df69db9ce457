"""Tests of the tracks of faces: numbers, fused embeddings, ends, and persons who take the place of others."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.live.tracks import LOST_AFTER_S, FaceTracker, Sighting, Track

DIM = 4


def direction(axis: int, tilt: float = 0.0) -> np.ndarray:
    """Returns a unit vector whose cosine to the axis is cos(tilt)."""
    vector = np.zeros(DIM, np.float32)
    vector[axis], vector[(axis + 1) % DIM] = np.cos(tilt), np.sin(tilt)
    return vector


def face(x: float, axis: int = 0, quality: float | None = 0.5, score: float = 0.9, tilt: float = 0.0) -> Sighting:
    return Sighting((x, 100, x + 80, 200), score, quality, direction(axis, tilt))


def test_a_moving_face_is_one_track() -> None:
    tracker = FaceTracker()
    frames = [tracker.update([face(10 + 5 * number)], number / 10) for number in range(20)]
    tracks = {track.number for frame in frames for track in frame.visible if track is not None}
    assert tracks == {1}
    assert sum(len(frame.started) for frame in frames) == 1
    assert not any(frame.ended for frame in frames)


def test_two_faces_are_two_tracks_whatever_their_order() -> None:
    tracker = FaceTracker()
    left, right = face(10), face(400, axis=1)
    for number in range(4):
        tracker.update([left, right], number / 10)
    first, second = (track.number for track in tracker.update([left, right], 0.4).visible if track is not None)
    swapped = [track.number for track in tracker.update([right, left], 0.5).visible if track is not None]
    assert swapped == [second, first]


def test_a_track_survives_a_short_gap_and_ends_after_a_long_one() -> None:
    tracker = FaceTracker()
    for number in range(5):
        tracker.update([face(10)], number / 10)
    assert not tracker.update([], 0.4 + LOST_AFTER_S / 2).ended
    [track] = tracker.update([face(10)], 0.5 + LOST_AFTER_S / 2).visible
    assert track is not None
    assert track.number == 1
    ended = [track.number for at in (2.0, 3.0, 4.0) for track in tracker.update([], at).ended]
    assert ended == [1]
    visible = [tracker.update([face(10)], 5 + number / 10).visible[0] for number in range(3)]
    assert {track.number for track in visible if track is not None} == {2}


def test_another_person_in_the_same_place_is_another_track() -> None:
    tracker = FaceTracker(same_person=0.3)
    for number in range(5):
        tracker.update([face(10, axis=0)], number / 10)
    frame = tracker.update([face(10, axis=2)], 0.5)
    assert [track.number for track in frame.ended] == [1]
    assert [track.number for track in frame.started] == [2]
    assert frame.visible == frame.started
    assert frame.started[0].embedding == pytest.approx(direction(2))


def test_without_a_calibration_the_position_alone_decides() -> None:
    tracker = FaceTracker(same_person=None)
    for number in range(5):
        tracker.update([face(10, axis=number % 2)], number / 10)
    assert tracker.update([], 0.6).ended == []


def test_the_fused_embedding_is_weighted_by_quality() -> None:
    track = Track(1, 0.0, 0.0, face(0))
    track.add(face(0, axis=0, quality=0.9), 0.0)
    track.add(face(0, axis=1, quality=0.3), 0.1)
    assert track.embedding == pytest.approx(np.array([3, 1, 0, 0]) / np.sqrt(10))
    assert (track.sightings, track.last_at) == (2, 0.1)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1.5)), min_size=1, max_size=20))
def test_the_fused_embedding_has_length_one(values: list[tuple[float, float]]) -> None:
    track = Track(1, 0.0, 0.0, face(0))
    for number, (quality, tilt) in enumerate(values):
        track.add(face(0, quality=quality, tilt=tilt), float(number))
    assert np.linalg.norm(track.embedding) == pytest.approx(1, abs=1e-5)


def test_end_all_ends_every_track_and_numbers_go_on() -> None:
    tracker = FaceTracker()
    for number in range(3):
        tracker.update([face(10), face(400, axis=1)], number / 10)
    assert sorted(track.number for track in tracker.end_all()) == [1, 2]
    assert tracker.end_all() == []
    visible = [tracker.update([face(10)], 1 + number / 10).visible[0] for number in range(3)]
    assert {track.number for track in visible if track is not None} == {3}
