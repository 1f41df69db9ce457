"""Tests of the landmark refiner: samples, loss, training, export, and landmark refinement and face verification."""

import json
import math
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from service.errors import StartupError
from service.inference.bundle import read_detector
from service.inference.detector import YoloFaceDetector
from service.inference.engine import Detection
from service.inference.graph import RuntimeOptions
from service.inference.landmarks import LandmarkRefiner, verified
from service.runtime.settings import BUNDLES
from tests.photos import COLLINS, HOPPER, encoded, pixels
from trainer.configuration import ConfigError
from trainer.detector.labels import LabelledFace, read_labels, write_labels
from trainer.landmarks import export, training
from trainer.landmarks.config import LandmarkConfig
from trainer.landmarks.faces import Faces, Kind, detected_faces, join, labelled_faces
from trainer.landmarks.model import EYES, Deployed, laplace_loss
from trainer.landmarks.model import LandmarkRefiner as Net
from trainer.landmarks.proposals import false_detections, proposals
from trainer.landmarks.samples import Samples, mirrored, rough_crop, template

SHARES = st.floats(0.01, 1)


@pytest.fixture(scope="module")
def faces(identity_folder: Path) -> Faces:
    detector = YoloFaceDetector(BUNDLES / "detector", RuntimeOptions())
    return detected_faces(identity_folder, detector, 0.3, 24)


def test_the_loss_is_minimal_at_half_the_error() -> None:
    """For a Laplace distribution in the plane, 2 log b + d / b is minimal at b = d / 2."""
    points = torch.zeros(1, 5, 2)
    wrong = torch.cat([torch.full((1, 5, 1), 0.1), torch.zeros(1, 5, 1)], dim=2)
    losses = {
        scale: float(laplace_loss(torch.cat([wrong, torch.full((1, 5, 1), math.log(scale))], dim=2), points))
        for scale in (0.02, 0.05, 0.12)
    }
    assert min(losses, key=losses.__getitem__) == 0.05


def test_mirroring_twice_restores_the_picture() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (160, 160, 3), np.uint8)
    points = template(160)
    once_picture, once = mirrored(picture, points)
    assert once[0, 0] < once[1, 0]
    assert once[3, 0] < once[4, 0]
    back, twice = mirrored(once_picture, once)
    assert (back == picture).all()
    np.testing.assert_allclose(twice, points)


def test_a_rough_crop_reports_the_true_landmarks() -> None:
    """A white dot on a landmark of a black picture is at the reported position in the crop."""
    points = template(160)
    for number in range(5):
        picture = np.zeros((160, 160, 3), np.uint8)
        x, y = points[number].round().astype(int)
        picture[y - 2 : y + 3, x - 2 : x + 3] = 255
        config = LandmarkConfig()
        crop, inside = rough_crop(picture, points, config, np.random.default_rng(number))
        weight = crop[..., 0].astype(float)
        rows, columns = np.indices(weight.shape)
        centre = np.array([(columns * weight).sum(), (rows * weight).sum()]) / weight.sum()
        np.testing.assert_allclose(centre, inside[number], atol=1)


def test_only_training_samples_are_augmented(faces: Faces) -> None:
    config = LandmarkConfig()
    augmented, fixed = Samples(faces, config, augmented=True), Samples(faces, config, augmented=False)
    assert not torch.equal(augmented[0][0], augmented[0][0])
    assert torch.equal(fixed[0][0], fixed[0][0])
    assert fixed[0][1].shape == (5, 2)
    assert fixed[0][2] == Kind.LANDMARKED


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


class Scripted:
    """Returns the same detections for every picture."""

    def __init__(self, *detections: Detection) -> None:
        self._detections = list(detections)

    def detect(self, pictures: Sequence[np.ndarray]) -> list[list[Detection]]:
        return [list(self._detections) for _ in pictures]


def five(left: float, top: float) -> np.ndarray:
    points = np.array([[20, 25], [50, 25], [35, 45], [24, 60], [46, 60]], np.float32) + np.array([left, top])
    return np.concatenate([points, np.ones((5, 1))], axis=1).astype(np.float32)


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


def test_a_file_that_is_not_a_checkpoint_is_rejected(faces: Faces, tmp_path: Path) -> None:
    (tmp_path / "wrong.ckpt").write_text("nothing")
    config = LandmarkConfig(input_size=32, width=4, batch_size=2)
    with pytest.raises(ConfigError, match=r"wrong\.ckpt is not a checkpoint of `identity-trainer landmarks train`"):
        training.train(config, faces, faces, tmp_path / "run", tmp_path / "wrong.ckpt")


def test_a_verified_score_is_the_geometric_mean_of_both_stages(tmp_path: Path) -> None:
    config = LandmarkConfig(input_size=32, width=4)
    settings = tmp_path / "landmarks.yaml"
    settings.write_text("input_size: 32\nwidth: 4\n")
    shutil.copytree(BUNDLES / "detector", tmp_path / "bundle")
    module = training.RefinerTraining(config)
    with torch.no_grad():
        module.model.face[2].weight.zero_()
        module.model.face[2].bias.fill_(math.log(0.25 / 0.75))
    torch.save({"state_dict": module.state_dict()}, tmp_path / "quarter.ckpt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stage = export.export(tmp_path / "quarter.ckpt", settings, tmp_path / "bundle").landmark_stage
    assert stage is not None
    assert stage.verifies
    refiner = LandmarkRefiner(tmp_path / "bundle", stage, RuntimeOptions())
    face = Detection((10, 10, 80, 90), 0.64, five(10, 10))
    ((refined,),) = refiner.refine([pixels(COLLINS)], [[face]])
    assert refined.score == pytest.approx(0.4, abs=0.005)
    assert refiner.proposal_score(0.4) == pytest.approx(0.16)
    assert refiner.proposal_score(0) > 0
    detector = YoloFaceDetector(tmp_path / "bundle", RuntimeOptions(), min_score=0.4)
    (raw, *_) = detector.propose([pixels(COLLINS)], 0.05)[0]
    assert detector.detect([pixels(COLLINS)])[0][0].score == pytest.approx(math.sqrt(raw.score / 4), abs=0.01)
    with pytest.raises(StartupError, match="requires \\(15,\\)"):
        LandmarkRefiner(tmp_path / "bundle", stage.model_copy(update={"verifies": False}), RuntimeOptions())


@given(SHARES, SHARES, st.floats(1, 4000))
def test_a_verified_score_lies_between_the_two_and_rises_with_both(score: float, certainty: float, side: float) -> None:
    box = (0.0, 0.0, side, 2 * side)
    both = verified(score, certainty, box)
    assert min(score, certainty) - 1e-9 <= both <= max(score, certainty) + 1e-9
    assert verified(min(score * 1.1, 1), certainty, box) >= both
    assert verified(score, min(certainty * 1.1, 1), box) >= both


@pytest.mark.parametrize(
    ("side", "expected"),
    [(200, 0.4), (64, 0.4), (32, 0.64**0.65 * 0.25**0.35), (16, 0.64**0.8 * 0.25**0.2), (4, 0.64**0.8 * 0.25**0.2)],
)
def test_face_verification_has_less_weight_for_small_faces(side: float, expected: float) -> None:
    assert verified(0.64, 0.25, (10.0, 10.0, 10 + side, 20 + 2 * side)) == pytest.approx(expected)


def test_every_detection_that_can_reach_the_minimum_score_is_verified() -> None:
    stage = read_detector(BUNDLES / "detector").landmark_stage
    assert stage is not None
    refiner = LandmarkRefiner(BUNDLES / "detector", stage, RuntimeOptions())
    for min_score in (0.2, 0.48, 0.9):
        for side in (8, 16, 30, 64, 300):
            assert verified(refiner.proposal_score(min_score), 1.0, (0.0, 0.0, side, side)) <= min_score + 1e-9


@pytest.mark.slow
def test_a_trained_refiner_is_exported_and_refines(faces: Faces, tmp_path: Path) -> None:
    config = LandmarkConfig(input_size=32, width=8, epochs=30, batch_size=8, workers=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        best = training.train(config, faces, faces, tmp_path / "run")
        settings = tmp_path / "landmarks.yaml"
        settings.write_text("input_size: 32\nwidth: 8\n")
        bundle = tmp_path / "bundle"
        shutil.copytree(BUNDLES / "detector", bundle)
        manifest = export.export(best, settings, bundle)
        assert export.export(best, settings, bundle) == manifest  # replaces the first one
    errors = [line.split(",")[1] for line in (tmp_path / "run" / "metrics.csv").read_text().splitlines()[1:]]
    logged = [float(error) for error in errors if error]
    assert logged[-1] < logged[0] / 2
    assert manifest.landmark_stage is not None

    net = training.load(best, config)
    crops = np.stack(
        [sample[0].numpy() for sample in (Samples(faces, config, augmented=False)[row] for row in range(4))]
    )
    eager = Deployed(net).eval()(torch.from_numpy(crops).float()).detach().numpy()
    refiner = LandmarkRefiner(bundle, manifest.landmark_stage, RuntimeOptions())
    np.testing.assert_allclose(refiner._graph.run(crops.astype(np.float32)), eager, atol=2e-2)
    confidences = np.concatenate([eager[:, 2:15:3], eager[:, 15:]], axis=1)
    assert ((confidences > 0) & (confidences <= 1)).all()

    results = YoloFaceDetector(bundle, RuntimeOptions()).detect([pixels(COLLINS), pixels(HOPPER)])
    for detections in results:
        landmarks = detections[0].landmarks
        assert landmarks is not None
        left, top, right, bottom = detections[0].box
        assert ((landmarks[:, :2] > [left, top]) & (landmarks[:, :2] < [right, bottom])).all()


def test_the_shapes_of_the_network_outputs() -> None:
    outputs, logits = Net(32, 4)(torch.zeros(3, 3, 32, 32))
    assert outputs.shape == (3, 5, 3)
    assert logits.shape == (3,)
    assert pytest.approx(0.22, abs=0.01) == EYES


def test_the_shipped_refiner_corrects_rough_landmarks() -> None:
    """Landmarks displaced by a tenth of the eye distance get less than half of that error."""
    stage = read_detector(BUNDLES / "detector").landmark_stage
    assert stage is not None
    detector = YoloFaceDetector(BUNDLES / "detector", RuntimeOptions())
    refiner = LandmarkRefiner(BUNDLES / "detector", stage, RuntimeOptions())
    rng = np.random.default_rng(0)
    for path in (COLLINS, HOPPER):
        (face, *_) = detector.detect([pixels(path)])[0]
        assert face.landmarks is not None
        eyes = float(np.linalg.norm(face.landmarks[0, :2] - face.landmarks[1, :2]))
        rough = face.landmarks.copy()
        rough[:, :2] += rng.normal(0, 0.1 * eyes, (5, 2))
        ((refined,),) = refiner.refine([pixels(path)], [[Detection(face.box, face.score, rough)]])
        assert refined.landmarks is not None
        after = np.linalg.norm(refined.landmarks[:, :2] - face.landmarks[:, :2], axis=1) / eyes
        before = np.linalg.norm(rough[:, :2] - face.landmarks[:, :2], axis=1) / eyes
        assert after.mean() < before.mean() / 2


def test_coincident_landmarks_are_not_refined() -> None:
    stage = read_detector(BUNDLES / "detector").landmark_stage
    assert stage is not None
    refiner = LandmarkRefiner(BUNDLES / "detector", stage, RuntimeOptions())
    same = Detection((0, 0, 10, 10), 0.9, np.ones((5, 3), np.float32))
    none = Detection((0, 0, 10, 10), 0.9, None)
    assert refiner.refine([pixels(COLLINS)], [[same, none]]) == [[same, none]]
    assert refiner.refine([], []) == []


def test_a_manifest_without_the_hash_of_the_refiner_is_rejected(tmp_path: Path) -> None:
    shutil.copytree(BUNDLES / "detector", tmp_path / "bundle")
    manifest = json.loads((tmp_path / "bundle" / "manifest.json").read_text())
    del manifest["files"][manifest["landmark_stage"]["graph"]]
    (tmp_path / "bundle" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(StartupError, match="no hash of the graph"):
        read_detector(tmp_path / "bundle")
