"""The faces that a landmark refiner learns from: of labels, proposals and false detections."""

from pathlib import Path

import numpy as np
import pytest

from service.inference.engine import Detection
from tests.photos import COLLINS, encoded, pixels
from tests.trainer.scripted_detector import Scripted, five
from trainer.detector.labels import LabelledFace, read_labels, write_labels
from trainer.landmarks.faces import Faces, Kind, join, labelled_faces
from trainer.landmarks.proposals import false_detections, proposals
from trainer.landmarks.samples import template


def test_faces_are_collected_from_labels_and_from_pictures(faces: Faces, tmp_path: Path) -> None:
    assert len(faces) >= 20
    (tmp_path / "images" / "train").mkdir(parents=True)
    (tmp_path / "labels" / "train").mkdir(parents=True)
    (tmp_path / "images" / "train" / "a.jpg").write_bytes(encoded(pixels(COLLINS)))
    line = "0 0.43 0.23 0.2 0.25 0.40 0.20 2 0.47 0.20 2 0.44 0.24 2 0.41 0.28 2 0.46 0.28 2\n"
    (tmp_path / "labels" / "train" / "a.txt").write_text(line + "0 0.9 0.9 0.01 0.01\n")
    labelled = labelled_faces(tmp_path, "train")
    assert len(labelled) == 1
    np.testing.assert_allclose(labelled.landmarks[0].mean(axis=0), template(160).mean(axis=0), atol=4)
    assert len(join([faces, labelled])) == len(faces) + 1
    height, width = pixels(COLLINS).shape[:2]
    label = read_labels(tmp_path / "labels" / "train" / "a.txt", width, height)[0]
    doubled = (label.landmarks - label.landmarks.mean(axis=0)) * 2 + label.landmarks.mean(axis=0)
    detection = Detection(tuple(map(float, label.box)), 0.9, doubled)  # type: ignore[arg-type]
    relabelled = labelled_faces(tmp_path, "train", Scripted(detection))
    assert relabelled.landmarks[0] == pytest.approx(labelled.landmarks[0], abs=1)
    assert not np.allclose(relabelled.pictures, labelled.pictures)


def test_proposals_are_sorted_into_faces_others_and_unused(tmp_path: Path) -> None:
    """Counts the crops of five detections in each of the three views of a picture of 400 x 400 pixels.

    Upright and as a negative, only one box overlaps neither the label nor the suspected face. Rotated, the label is at
    (100, 230) to (180, 300) and the suspected face at (20, 30) to (100, 100); one box overlaps it and four overlap
    nothing.
    """
    (tmp_path / "images" / "train").mkdir(parents=True)
    (tmp_path / "labels" / "train").mkdir(parents=True)
    (tmp_path / "images" / "train" / "a.png").write_bytes(encoded(np.zeros((400, 400, 3), np.uint8), "PNG"))
    label = LabelledFace(np.array([100, 100, 170, 180], np.float32), np.zeros((5, 3), np.float32))
    write_labels(tmp_path / "labels" / "train" / "a.txt", [label], 400, 400)
    correct = Detection((102, 102, 168, 178), 0.5, five(100, 100))
    weak = Detection((100, 100, 170, 180), 0.05, five(100, 100))
    part = Detection((110, 110, 130, 130), 0.4, five(105, 105))
    apart = Detection((10, 10, 80, 90), 0.3, five(10, 10))
    suspected = Detection((300, 20, 370, 100), 0.3, five(300, 20))
    collected = proposals(tmp_path, "train", Scripted(correct, weak, part, apart, suspected), Scripted(suspected))
    kinds = [int((collected.kinds == kind).sum()) for kind in Kind]
    assert kinds == [0, 1, 1 + 4 + 1]


def test_every_detection_in_a_scene_is_false(tmp_path: Path) -> None:
    """The three views of two pictures yield six crops; a damaged file is skipped."""
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(encoded(np.zeros((200, 300, 3), np.uint8), "PNG"))
    (tmp_path / "c.png").write_bytes(b"no picture")
    collected = false_detections(tmp_path, Scripted(Detection((10, 10, 80, 90), 0.3, five(10, 10))))
    assert collected.kinds.tolist() == [Kind.OTHER] * 6
