"""Measurements of the quality of a face, and reasons for which a face is refused."""

import numpy as np
import pytest

from service.inference.engine import Detection, Face
from service.recognition.policies import QualityLimits
from service.recognition.samples import refusal
from service.vision.alignment import TEMPLATE_112
from service.vision.quality import measure, visible_share
from service.vision.sample import Quality

LIMITS = QualityLimits(
    min_face_px=32,
    min_sharpness=15,
    max_asymmetry=0.75,
    min_brightness=30,
    max_brightness=235,
    min_visible=0.85,
    min_score=0.01,
)
GOOD = Quality(face_px=100, sharpness=200, asymmetry=0.1, brightness=120, visible=1, score=0.6)
BOX = np.array([10, 20, 110, 170], np.float32)
SIZE = 0, 0, 640, 480


def reasons(quality: Quality) -> list[str]:
    """Returns the reasons of the refusal; empty if the face is accepted."""
    error = refusal(Face(Detection((0, 0, 1, 1), 1.0, None), quality, np.ones(4, np.float32)), LIMITS)
    return [] if error is None else error.extensions["reasons"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"face_px": 31}, "too_small"),
        ({"sharpness": 14}, "too_blurred"),
        ({"asymmetry": 0.8}, "extreme_pose"),
        ({"brightness": 29}, "too_dark"),
        ({"brightness": 240}, "too_bright"),
        ({"visible": 0.8}, "cut_off"),
        ({"score": 0.005}, "hard_to_recognise"),
    ],
)
def test_each_measurement_has_a_reason(change: dict[str, float], reason: str) -> None:
    assert reasons(Quality(**{**GOOD.__dict__, **change})) == [reason]


def test_good_face_passes_with_and_without_a_score() -> None:
    assert reasons(GOOD) == []
    assert reasons(Quality(**{**GOOD.__dict__, "score": None})) == []


def test_all_reasons_are_listed() -> None:
    assert reasons(Quality(10, 1, 0.9, 5, 0.5, 0.0)) == [
        "too_small",
        "too_blurred",
        "extreme_pose",
        "too_dark",
        "cut_off",
        "hard_to_recognise",
    ]


def test_measurements_of_a_uniform_and_a_noisy_crop() -> None:
    flat = np.full((112, 112, 3), 200, np.uint8)
    quality = measure(flat, BOX, TEMPLATE_112, 0.4, SIZE)
    assert (quality.face_px, quality.sharpness, quality.score) == (100, 0, 0.4)
    assert quality.brightness == pytest.approx(200, abs=1)
    assert quality.asymmetry < 0.02
    noisy = np.random.default_rng(0).integers(0, 255, (112, 112, 3), np.uint8)
    assert measure(noisy, BOX, None, None, SIZE).sharpness > 1000


def test_brightness_ignores_the_border_of_the_crop() -> None:
    crop = np.full((112, 112, 3), 255, np.uint8)
    crop[16:96, 16:96] = 10
    assert measure(crop, BOX, None, None, SIZE).brightness == pytest.approx(10, abs=1)


def test_nose_at_one_eye_has_asymmetry_one() -> None:
    profile = TEMPLATE_112.copy()
    profile[2] = profile[1]
    assert measure(np.zeros((112, 112, 3), np.uint8), BOX, profile, None, SIZE).asymmetry == pytest.approx(1)


@pytest.mark.parametrize(
    ("shift", "expected"), [((0, 0), 1), ((-56, 0), 0.5), ((0, -28), 0.75), ((640 - 56, 480 - 56), 0.25)]
)
def test_visible_share_of_a_face_at_the_edge(shift: tuple[int, int], expected: float) -> None:
    landmarks = TEMPLATE_112 + np.array(shift, np.float32)
    assert visible_share(landmarks, SIZE) == pytest.approx(expected, abs=0.01)


def test_face_without_landmarks_or_with_coinciding_ones_counts_as_whole() -> None:
    assert visible_share(np.zeros((5, 2), np.float32), SIZE) == 1
    assert measure(np.zeros((112, 112, 3), np.uint8), BOX, None, None, SIZE).visible == 1
