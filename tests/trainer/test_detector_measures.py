"""Measurements of a detector: landmark error, hard cases and false alarms."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from service.inference.detector import YoloFaceDetector
from service.inference.engine import Detection
from tests.photos import COLLINS, HOPPER, encoded, pixels
from tests.trainer.labelled_face import FACE, POINTS
from trainer.__main__ import app
from trainer.detector import hard_case_metrics, hard_cases
from trainer.detector.background import background_pictures
from trainer.detector.labels import LabelledFace
from trainer.detector.landmark_error import landmark_error
from trainer.detector.portraits import YAW_BINS, Portrait, in_yaw_bin, yaw


def test_landmark_error_of_a_worked_example() -> None:
    """The eyes are 40 px apart; four points are 4 px off and one is 8 px off, so the errors are 0.1 and 0.2."""
    reference = Detection((20, 20, 80, 100), 0.9, POINTS)
    moved = POINTS + np.array([4, 0, 0], np.float32)
    moved[2, 0] += 4
    detection = Detection((22, 22, 82, 102), 0.9, moved)
    error = landmark_error([([detection], [reference]), ([], [reference])])
    assert error.faces == 1
    assert error.median == pytest.approx(0.1)
    assert error.by_point[2] == pytest.approx(0.2)
    with pytest.raises(ValueError, match="in common"):
        landmark_error([([], [reference])])


def test_four_rotations_by_90_degrees_restore_the_picture() -> None:
    portrait = Portrait(np.random.default_rng(0).integers(0, 255, (120, 100, 3), np.uint8), FACE)
    rotated = portrait
    for _ in range(4):
        rotated = hard_cases.CASES["rotated 90° left"](rotated, np.random.default_rng(0))
    assert (rotated.pixels == portrait.pixels).all()
    np.testing.assert_allclose(rotated.face.box, FACE.box)
    np.testing.assert_allclose(rotated.face.landmarks, FACE.landmarks)


def test_a_cut_off_face_keeps_the_landmarks_that_remain_in_the_picture() -> None:
    portrait = Portrait(np.zeros((120, 100, 3), np.uint8), FACE)
    x_min, _, x_max, _ = FACE.box
    cut = hard_cases.CASES["cut off: 40 % at the left"](portrait, np.random.default_rng(0))
    removed = int(x_min + 0.4 * (x_max - x_min))
    assert cut.pixels.shape == (120, 100 - removed, 3)
    np.testing.assert_allclose(cut.face.box, [0, FACE.box[1], x_max - removed, FACE.box[3]])
    shown = cut.face.landmarks[:, 2] > 0
    np.testing.assert_array_equal(shown, FACE.landmarks[:, 0] >= removed)
    assert 0 < shown.sum() < 5
    whole = Detection(tuple(cut.face.box.tolist()), 0.9, cut.face.landmarks)
    assert hard_case_metrics.judge([cut.face], [[whole]]).landmarks_correct == 1


@pytest.mark.parametrize(("nose", "degrees"), [(0.5, 0), (0.95, 45), (0.05, 45), (0.5 + 0.5 * 0.9 * 0.5774, 30)])
def test_yaw_of_a_nose_between_the_eyes(nose: float, degrees: float) -> None:
    points = np.array([[10, 0, 1], [20, 0, 1], [10 + 10 * nose, 8, 1], [12, 15, 1], [18, 15, 1]], np.float32)
    assert yaw(points) == pytest.approx(degrees, abs=0.1)


def test_every_portrait_is_in_one_yaw_bin() -> None:
    profile = FACE.landmarks.copy()
    profile[1] = profile[0]
    portraits = [Portrait(np.zeros((9, 9, 3), np.uint8), LabelledFace(FACE.box, p)) for p in (FACE.landmarks, profile)]
    bins = [in_yaw_bin(portraits, limits) for limits in YAW_BINS]
    assert [len(items) for items in bins] == [1, 0, 0, 1]


def test_a_detection_matches_by_position_and_size() -> None:
    exact = Detection((20, 20, 80, 100), 0.9, POINTS)
    upside_down = Detection((20, 20, 80, 100), 0.9, POINTS[[4, 3, 2, 1, 0]])
    small = Detection((45, 55, 55, 65), 0.9, POINTS)
    case = hard_case_metrics.judge([FACE] * 4, [[exact], [upside_down], [small], []])
    assert (case.faces, case.detected, case.landmarks_correct) == (4, 0.5, 0.25)


def test_the_commands_write_their_reports(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for path in (COLLINS, HOPPER):
        (photos / f"{path.stem}.jpg").write_bytes(encoded(pixels(path)))
    runner = CliRunner()
    prepared = runner.invoke(app, ["detector", "prepare", "--pictures", str(photos), "--output", str(tmp_path / "set")])
    assert prepared.exit_code == 0, prepared.output
    assert "2 pictures" in prepared.output
    arguments = ["detector", "hard-cases", "--photos", str(photos), "--count", "2", "--output", str(tmp_path / "hard")]
    result = runner.invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "upside down" in (tmp_path / "hard" / "report.md").read_text()
    assert {path.name for path in (tmp_path / "hard").iterdir()} == {"report.md", "cases.jpg", "group.jpg"}


def test_the_shipped_detector_has_few_false_alarms(detector: YoloFaceDetector) -> None:
    pictures = list(background_pictures())
    assert len(pictures) == 100
    assert sum(len(detector.detect([picture])[0]) for _, picture in pictures) <= 2, "YuNet has 12"
