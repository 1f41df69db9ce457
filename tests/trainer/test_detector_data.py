"""Labels, composites, prepared folders, hard cases: where each face and each landmark must be."""

import csv
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from service.inference.detector import YoloFaceDetector
from service.inference.engine import Detection
from service.inference.graph import RuntimeOptions
from service.runtime.settings import BUNDLES
from service.vision.image import ImageLimits, decode
from tests.photos import COLLINS, HOPPER, encoded, pixels
from trainer.__main__ import app
from trainer.detector import composites, hard_cases
from trainer.detector.background import background
from trainer.detector.completing import Agreement, complete
from trainer.detector.labels import LabelledFace, read_labels, write_labels
from trainer.detector.landmark_error import landmark_error
from trainer.detector.preparation import merge, prepare
from trainer.detector.steadying import Look, Steadied

POINTS = np.array([[30, 40, 1], [70, 40, 1], [50, 60, 1], [35, 80, 1], [65, 80, 1]], np.float32)
FACE = LabelledFace(np.array([20, 20, 80, 100], np.float32), POINTS)


@pytest.fixture(scope="module")
def finder() -> YoloFaceDetector:
    return YoloFaceDetector(BUNDLES / "detector", RuntimeOptions())


def test_labels_survive_being_written(tmp_path: Path) -> None:
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
def test_turning_twice_is_turning_by_the_sum(first: float, second: float) -> None:
    picture = np.zeros((120, 120, 3), np.uint8)
    once = composites.turn(*composites.turn(picture, FACE, first), second)[1]
    together = composites.turn(picture, FACE, first + second)[1]
    np.testing.assert_allclose(once.landmarks, together.landmarks, atol=0.01)


def test_a_quarter_turn_of_a_face() -> None:
    """Counter-clockwise about (60, 60): (x, y) goes to (y, 120 - x); the box of 60 x 80 becomes one of 80 x 60."""
    _, face = composites.turn(np.zeros((120, 120, 3), np.uint8), FACE, 90)
    np.testing.assert_allclose(face.landmarks[0], [40, 90, 1], atol=1e-3)
    np.testing.assert_allclose(face.box, [20, 40, 100, 100], atol=1e-3)


def test_what_lies_under_a_patch_is_hidden() -> None:
    rng = np.random.default_rng(0)
    picture = np.full((120, 120, 3), 7, np.uint8)
    hidden = 0
    for _ in range(40):
        covered, face = composites.cover(picture, FACE, rng)
        for (x, y, _), seen in zip(POINTS, face.landmarks[:, 2], strict=True):
            untouched = (covered[round(y), round(x)] == 7).all()
            assert seen or not untouched
            hidden += not seen
    assert hidden >= 40
    assert (picture == 7).all()


def test_composites_show_labelled_faces(identity_folder: Path, finder: YoloFaceDetector, tmp_path: Path) -> None:
    config = composites.CompositeConfig(side=480, tiles=(3,), min_score=0.3)
    faces = composites.compose(identity_folder, None, finder, tmp_path, 2, 24, config)
    assert faces == 18
    path = tmp_path / "images" / "train" / "composite_00000.jpg"
    assert decode(path.read_bytes(), ImageLimits()).shape == (480, 480, 3)
    labels = read_labels(tmp_path / "labels" / "train" / "composite_00000.txt", 480, 480)
    assert len(labels) == 9
    with pytest.raises(ValueError, match="exactly one face"):
        composites.compose(tmp_path / "nothing", None, finder, tmp_path / "b", 1, 24, config)


def test_people_and_machine_are_merged() -> None:
    """The machine gives landmarks to the box it agrees with, adds what nobody drew, and repeats nothing."""
    drawn = [LabelledFace(np.array([0, 0, 100, 100], np.float32), np.zeros((5, 3), np.float32))]
    points = np.ones((5, 3), np.float32)
    agreed = Detection((10, 10, 95, 95), 0.9, points)
    again = Detection((0, 30, 100, 130), 0.5, points)
    other = Detection((300, 300, 340, 340), 0.8, None)
    merged = merge(drawn, [again, other, agreed])
    assert [face.box.tolist() for face in merged] == [[0, 0, 100, 100], [300, 300, 340, 340]]
    assert merged[0].landmarks[:, 2].all()
    assert not merged[1].landmarks[:, 2].any()


def test_a_folder_becomes_a_training_set(finder: YoloFaceDetector, tmp_path: Path) -> None:
    source, human = tmp_path / "in", tmp_path / "human"
    (source / "more").mkdir(parents=True)
    human.mkdir()
    (source / "collins.jpg").write_bytes(encoded(pixels(COLLINS)))
    (source / "more" / "again.jpg").write_bytes(encoded(pixels(COLLINS)))
    (source / "more" / "hopper.jpg").write_bytes(encoded(pixels(HOPPER)))
    (source / "broken.png").write_bytes(b"no picture")
    (human / "collins.txt").write_text("0 0.1 0.9 0.05 0.05\n")
    rows = prepare(source, human, finder, tmp_path / "out", 0.3, 0.5)
    by_name = {row.picture: row for row in rows}
    assert by_name["more/again.jpg"].problem == "the same file as collins.jpg"
    assert "none of JPEG" in by_name["broken.png"].problem
    assert (by_name["collins.jpg"].human_boxes, by_name["collins.jpg"].machine_boxes) == (1, 1)
    with (tmp_path / "out" / "prepared.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 4
    assert yaml.safe_load((tmp_path / "out" / "dataset.yaml").read_text())["kpt_shape"] == [5, 3]
    assert decode((tmp_path / "out" / "look.jpg").read_bytes(), ImageLimits()).shape[0] == 320
    again = prepare(source, None, finder, tmp_path / "grown", 0.3, 0.5)
    assert [row.split for row in again] == [row.split for row in rows]
    with pytest.raises(ValueError, match="has no pictures"):
        prepare(human, None, finder, tmp_path / "none", 0.3, 0.5)


def test_landmark_error_of_a_worked_example() -> None:
    """Eyes 40 px apart, every point 4 px off, but one that is 8 px off: .1 and .2."""
    reference = Detection((20, 20, 80, 100), 0.9, POINTS)
    moved = POINTS + np.array([4, 0, 0], np.float32)
    moved[2, 0] += 4
    found = Detection((22, 22, 82, 102), 0.9, moved)
    error = landmark_error([([found], [reference]), ([], [reference])])
    assert error.faces == 1
    assert error.median == pytest.approx(0.1)
    assert error.by_point[2] == pytest.approx(0.2)
    with pytest.raises(ValueError, match="in common"):
        landmark_error([([], [reference])])


class Scripted:
    """Finds the same faces in every picture, or the ones of a function of the picture."""

    def __init__(self, *found: Detection) -> None:
        self._found = list(found)

    def detect(self, pictures: Sequence[np.ndarray]) -> list[list[Detection]]:
        return [list(self._found) for _ in pictures]


def test_what_two_detectors_see_is_added(tmp_path: Path) -> None:
    """A labelled face is kept once, one that both see is added with the second's landmarks, all else is not."""
    (tmp_path / "in" / "images" / "train").mkdir(parents=True)
    (tmp_path / "in" / "labels" / "train").mkdir(parents=True)
    (tmp_path / "in" / "dataset.yaml").write_text("names: {0: face}\n")
    (tmp_path / "in" / "images" / "train" / "a.png").write_bytes(encoded(np.zeros((400, 400, 3), np.uint8), "PNG"))
    write_labels(tmp_path / "in" / "labels" / "train" / "a.txt", [FACE], 400, 400)
    moved = np.array([200, 100, 0], np.float32)
    labelled = Detection((20, 20, 80, 100), 0.9, POINTS)
    both, also = Detection((220, 120, 280, 200), 0.4, POINTS), Detection((222, 121, 281, 202), 0.7, POINTS + moved)
    alone, weak = Detection((300, 300, 360, 380), 0.8, POINTS), Detection((300, 300, 360, 380), 0.3, POINTS)
    agreement = Agreement(Scripted(labelled, both, alone), 0.2, Scripted(labelled, also, weak), 0.5)
    assert complete(tmp_path / "in", "train", agreement, tmp_path / "out") == 1
    first, second = read_labels(tmp_path / "out" / "labels" / "train" / "a.txt", 400, 400)
    np.testing.assert_allclose(first.box, FACE.box, atol=0.01)
    np.testing.assert_allclose(second.box, both.box, atol=0.01)
    np.testing.assert_allclose(second.landmarks[:, :2], (POINTS + moved)[:, :2], atol=0.01)
    assert (tmp_path / "out" / "images" / "train" / "a.png").exists()
    assert (tmp_path / "out" / "added.jpg").exists()


class Blobs:
    """Five white dots on black, which a perfect detector finds wherever they are."""

    def detect(self, pictures: Sequence[np.ndarray]) -> list[list[Detection]]:
        return [[self._one(picture[..., 0].astype(np.float64))] for picture in pictures]

    def _one(self, light: np.ndarray) -> Detection:
        _, _, _, centres = cv2.connectedComponentsWithStats((light > 60).astype(np.uint8))
        points = centres[1:] + 0.5
        upper, lower = points[np.argsort(points[:, 1])][:2], points[np.argsort(points[:, 1])][3:]
        nose = points[np.argsort(points[:, 1])][2]
        five = [*sorted(upper.tolist()), nose.tolist(), *sorted(lower.tolist())]
        landmarks = np.concatenate([np.array(five), np.ones((5, 1))], axis=1).astype(np.float32)
        (left, top), (right, bottom) = landmarks[:, :2].min(axis=0) - 10, landmarks[:, :2].max(axis=0) + 20
        return Detection((float(left), float(top), float(right), float(bottom)), 0.9, landmarks)


def dots() -> np.ndarray:
    picture = np.zeros((140, 120, 3), np.uint8)
    for x, y in POINTS[:, :2].astype(int):
        picture[y - 3 : y + 4, x - 3 : x + 4] = 255
    return picture


@given(st.booleans(), st.floats(0.8, 1.25), st.integers(0, 9), st.integers(0, 9))
def test_a_look_is_undone(mirrored: bool, scale: float, right: int, down: int) -> None:
    look = Look(mirrored, scale, right, down)
    (face,), (seen,) = Blobs().detect([dots()])[0], Blobs().detect([look.at(dots())])[0]
    back = look.undo(seen, 120)
    assert back.landmarks is not None
    assert face.landmarks is not None
    np.testing.assert_allclose(back.landmarks, face.landmarks, atol=1.5)
    assert back.box[0] < back.box[2]
    assert back.box[1] < back.box[3]


class Trembling(Blobs):
    """Wrong by much in every third look."""

    def __init__(self) -> None:
        self._looks = 0

    def _one(self, light: np.ndarray) -> Detection:
        self._looks += 1
        face = super()._one(light)
        assert face.landmarks is not None
        wrong = np.array([8, 8, 0], np.float32) * (self._looks % 3 == 1)
        return Detection(face.box, face.score, face.landmarks + wrong)


def test_several_looks_are_steadier_than_one() -> None:
    (truth,) = Blobs().detect([dots()])[0]
    (once,) = Trembling().detect([dots()])[0]
    (steadied,) = Steadied(Trembling()).detect([dots()])[0]
    assert once.landmarks is not None
    assert steadied.landmarks is not None
    assert truth.landmarks is not None
    assert np.abs(once.landmarks - truth.landmarks).max() == pytest.approx(8)
    assert np.abs(steadied.landmarks - truth.landmarks).max() < 1
    assert steadied.box == once.box
    assert Steadied(Scripted()).detect([dots()]) == [[]]


def test_four_quarters_are_a_whole_turn() -> None:
    portrait = hard_cases.Portrait(np.random.default_rng(0).integers(0, 255, (120, 100, 3), np.uint8), FACE)
    turned = portrait
    for _ in range(4):
        turned = hard_cases.CASES["on its left side"](turned, np.random.default_rng(0))
    assert (turned.pixels == portrait.pixels).all()
    np.testing.assert_allclose(turned.face.box, FACE.box)
    np.testing.assert_allclose(turned.face.landmarks, FACE.landmarks)


def test_found_means_in_place_and_in_size() -> None:
    exact = Detection((20, 20, 80, 100), 0.9, POINTS)
    upside_down = Detection((20, 20, 80, 100), 0.9, POINTS[[4, 3, 2, 1, 0]])
    small = Detection((45, 55, 55, 65), 0.9, POINTS)
    case = hard_cases.judge([FACE] * 4, [[exact], [upside_down], [small], []])
    assert (case.faces, case.found, case.landmarks_right) == (4, 0.5, 0.25)


def test_the_commands_write_their_reports(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for path in (COLLINS, HOPPER):
        (photos / f"{path.stem}.jpg").write_bytes(encoded(pixels(path)))
    runner = CliRunner()
    made = runner.invoke(app, ["detector", "prepare", "--pictures", str(photos), "--output", str(tmp_path / "set")])
    assert made.exit_code == 0, made.output
    assert "2 pictures" in made.output
    hard = ["detector", "hard-cases", "--photos", str(photos), "--count", "2", "--output", str(tmp_path / "hard")]
    result = runner.invoke(app, hard)
    assert result.exit_code == 0, result.output
    assert "upside down" in (tmp_path / "hard" / "report.md").read_text()
    assert {path.name for path in (tmp_path / "hard").iterdir()} == {"report.md", "cases.jpg", "group.jpg"}


def test_few_false_alarms_without_a_face(finder: YoloFaceDetector) -> None:
    pictures = list(background())
    assert len(pictures) == 100
    assert sum(len(finder.detect([picture])[0]) for _, picture in pictures) <= 4, "YuNet finds twelve"
