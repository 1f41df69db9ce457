"""Training data of the detector: labels, alterations, composites, prepared folders and completed labels."""

import csv
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from service.inference.detector import YoloFaceDetector
from service.inference.engine import Detection
from service.vision.image import ImageLimits, decode
from tests.photos import COLLINS, HOPPER, encoded, pixels
from tests.trainer.labelled_face import FACE, POINTS
from tests.trainer.scripted_detector import Scripted
from trainer.detector import composites
from trainer.detector.face_alterations import cover, turn
from trainer.detector.label_completion import DetectorPair, complete
from trainer.detector.labels import LabelledFace, read_labels, write_labels
from trainer.detector.preparation import merge, prepare


def test_written_labels_are_read_unchanged(tmp_path: Path) -> None:
    hidden = POINTS.copy()
    hidden[2] = 0
    write_labels(tmp_path / "a.txt", [FACE, LabelledFace(FACE.box, hidden)], 200, 100)
    first, second = read_labels(tmp_path / "a.txt", 200, 100)
    np.testing.assert_allclose(first.box, FACE.box, atol=0.01)
    np.testing.assert_allclose(first.landmarks[:, :2], POINTS[:, :2], atol=0.01)
    assert second.landmarks[:, 2].tolist() == [2, 2, 0, 2, 2]
    assert read_labels(tmp_path / "absent.txt", 200, 100) == []
    (tmp_path / "b.txt").write_text("0 0.5 0.5 0.1\n")
    with pytest.raises(ValueError, match="4 numbers in a line"):
        read_labels(tmp_path / "b.txt", 200, 100)


@given(st.floats(-180, 180), st.floats(-180, 180))
def test_two_rotations_equal_one_by_their_sum(first: float, second: float) -> None:
    picture = np.zeros((120, 120, 3), np.uint8)
    twice = turn(*turn(picture, FACE, first), second)[1]
    once = turn(picture, FACE, first + second)[1]
    np.testing.assert_allclose(twice.landmarks, once.landmarks, atol=0.01)


def test_rotation_by_90_degrees_moves_landmarks_and_box() -> None:
    """Counter-clockwise about (60, 60), (x, y) becomes (y, 120 - x), and the box of 60 x 80 one of 80 x 60."""
    _, face = turn(np.zeros((120, 120, 3), np.uint8), FACE, 90)
    np.testing.assert_allclose(face.landmarks[0], [40, 90, 1], atol=1e-3)
    np.testing.assert_allclose(face.box, [20, 40, 100, 100], atol=1e-3)


def test_landmarks_under_a_patch_are_marked_as_hidden() -> None:
    rng = np.random.default_rng(0)
    picture = np.full((120, 120, 3), 7, np.uint8)
    hidden = 0
    for _ in range(40):
        covered, face = cover(picture, FACE, rng)
        for (x, y, _), visible in zip(POINTS, face.landmarks[:, 2], strict=True):
            unchanged = (covered[round(y), round(x)] == 7).all()
            assert visible or not unchanged
            hidden += not visible
    assert hidden >= 40
    assert (picture == 7).all()


def test_composites_contain_labelled_faces(identity_folder: Path, detector: YoloFaceDetector, tmp_path: Path) -> None:
    config = composites.CompositeConfig(side=480, tiles=(3,), min_score=0.3)
    faces = composites.compose(identity_folder, None, detector, tmp_path, 2, 24, config)
    assert faces == 18
    path = tmp_path / "images" / "train" / "composite_00000.jpg"
    assert decode(path.read_bytes(), ImageLimits()).shape == (480, 480, 3)
    labels = read_labels(tmp_path / "labels" / "train" / "composite_00000.txt", 480, 480)
    assert len(labels) == 9
    with pytest.raises(ValueError, match="exactly one face"):
        composites.compose(tmp_path / "nothing", None, detector, tmp_path / "b", 1, 24, config)


def test_human_and_detector_labels_are_merged() -> None:
    """The detector adds landmarks to matching boxes and boxes for other faces, but no second box of a face."""
    drawn = [LabelledFace(np.array([0, 0, 100, 100], np.float32), np.zeros((5, 3), np.float32))]
    points = np.ones((5, 3), np.float32)
    matching = Detection((10, 10, 95, 95), 0.9, points)
    second = Detection((0, 30, 100, 130), 0.5, points)
    other = Detection((300, 300, 340, 340), 0.8, None)
    merged = merge(drawn, [second, other, matching])
    assert [face.box.tolist() for face in merged] == [[0, 0, 100, 100], [300, 300, 340, 340]]
    assert merged[0].landmarks[:, 2].all()
    assert not merged[1].landmarks[:, 2].any()


def test_a_folder_is_prepared_as_a_data_set(detector: YoloFaceDetector, tmp_path: Path) -> None:
    source, human = tmp_path / "in", tmp_path / "human"
    (source / "more").mkdir(parents=True)
    human.mkdir()
    (source / "collins.jpg").write_bytes(encoded(pixels(COLLINS)))
    (source / "more" / "again.jpg").write_bytes(encoded(pixels(COLLINS)))
    (source / "more" / "hopper.jpg").write_bytes(encoded(pixels(HOPPER)))
    (source / "broken.png").write_bytes(b"no picture")
    (human / "collins.txt").write_text("0 0.1 0.9 0.05 0.05\n")
    rows = prepare(source, human, detector, tmp_path / "out", 0.3, 0.5)
    by_name = {row.picture: row for row in rows}
    assert by_name["more/again.jpg"].problem == "the same file as collins.jpg"
    assert "is text" in by_name["broken.png"].problem
    assert (by_name["collins.jpg"].human_boxes, by_name["collins.jpg"].machine_boxes) == (1, 1)
    with (tmp_path / "out" / "prepared.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 4
    assert yaml.safe_load((tmp_path / "out" / "dataset.yaml").read_text())["kpt_shape"] == [5, 3]
    assert decode((tmp_path / "out" / "samples.jpg").read_bytes(), ImageLimits()).shape[0] == 320
    repeated = prepare(source, None, detector, tmp_path / "grown", 0.3, 0.5)
    assert [row.split for row in repeated] == [row.split for row in rows]
    with pytest.raises(ValueError, match="has no pictures"):
        prepare(human, None, detector, tmp_path / "none", 0.3, 0.5)


def test_faces_that_both_detectors_detect_are_added(tmp_path: Path) -> None:
    """A labelled face is not repeated, a common one gets the second detector's landmarks, others are ignored."""
    (tmp_path / "in" / "images" / "train").mkdir(parents=True)
    (tmp_path / "in" / "labels" / "train").mkdir(parents=True)
    (tmp_path / "in" / "dataset.yaml").write_text("names: {0: face}\n")
    (tmp_path / "in" / "images" / "train" / "a.png").write_bytes(encoded(np.zeros((400, 400, 3), np.uint8), "PNG"))
    write_labels(tmp_path / "in" / "labels" / "train" / "a.txt", [FACE], 400, 400)
    moved = np.array([200, 100, 0], np.float32)
    labelled = Detection((20, 20, 80, 100), 0.9, POINTS)
    by_first = Detection((220, 120, 280, 200), 0.4, POINTS)
    by_second = Detection((222, 121, 281, 202), 0.7, POINTS + moved)
    alone, weak = Detection((300, 300, 360, 380), 0.8, POINTS), Detection((300, 300, 360, 380), 0.3, POINTS)
    pair = DetectorPair(Scripted(labelled, by_first, alone), 0.2, Scripted(labelled, by_second, weak), 0.5)
    assert complete(tmp_path / "in", "train", pair, tmp_path / "out") == 1
    first, second = read_labels(tmp_path / "out" / "labels" / "train" / "a.txt", 400, 400)
    np.testing.assert_allclose(first.box, FACE.box, atol=0.01)
    np.testing.assert_allclose(second.box, by_first.box, atol=0.01)
    np.testing.assert_allclose(second.landmarks[:, :2], (POINTS + moved)[:, :2], atol=0.01)
    assert (tmp_path / "out" / "images" / "train" / "a.png").exists()
    assert (tmp_path / "out" / "added.jpg").exists()
