"""Landmark refinement and face verification by the refiner of a bundle."""

import json
import math
import shutil
import warnings
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
from tests.photos import COLLINS, HOPPER, pixels
from tests.trainer.scripted_detector import five
from trainer.landmarks import export, training
from trainer.landmarks.config import LandmarkConfig

SHARES = st.floats(0.01, 1)


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
    with pytest.raises(StartupError, match="has no hash of"):
        read_detector(tmp_path / "bundle")
