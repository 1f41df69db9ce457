"""Computes error rates of known scores, and splits identities."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from trainer.embedder.scores import PairScores, all_pairs, balanced_accuracy, ten_fold_accuracy
from trainer.embedder.split import Part, part_of
from trainer.embedder.split_config import SplitConfig


def test_all_pairs_of_three_people() -> None:
    embeddings = np.array([[1, 0], [0.6, 0.8], [0, 1]], np.float32)
    scores = all_pairs(embeddings, ["a", "a", "b"])
    np.testing.assert_allclose(scores.genuine, [0.6], atol=1e-6)
    np.testing.assert_allclose(sorted(scores.impostor), [0, 0.8], atol=1e-6)


def test_threshold_has_the_requested_false_match_rate() -> None:
    scores = PairScores(np.array([0.9]), np.linspace(0, 1, 1000, dtype=np.float32))
    threshold = scores.threshold_at(0.01)
    assert scores.false_match_rate(threshold) == pytest.approx(0.01)


@given(st.lists(st.floats(-1, 1, width=32), min_size=200, max_size=400), st.sampled_from([0.05, 0.1, 0.3]))
def test_measured_rate_never_exceeds_the_requested_rate(values: list[float], rate: float) -> None:
    scores = PairScores(np.array([1.0]), np.array(values, np.float32))
    assert scores.false_match_rate(scores.threshold_at(rate)) <= rate


def test_rate_that_is_not_measurable_is_rejected() -> None:
    with pytest.raises(ValueError, match="are too few"):
        PairScores(np.array([0.9]), np.zeros(999, np.float32)).threshold_at(0.01)


def test_accuracy_of_separable_pairs_is_1_and_of_random_pairs_a_half() -> None:
    same = np.arange(400) % 2 == 0
    assert ten_fold_accuracy(np.where(same, 0.8, 0.1), same) == (1.0, 0.0)
    accuracy, _ = ten_fold_accuracy(np.random.default_rng(0).random(400), same)
    assert 0.35 < accuracy < 0.65


@given(st.text(min_size=1), st.floats(0, 0.4), st.floats(0, 0.4))
def test_part_depends_on_the_name_alone(name: str, validation: float, calibration: float) -> None:
    split = SplitConfig(validation=validation, calibration=calibration)
    assert part_of(name, split) is part_of(name, split)
    assert part_of("", split) is Part.TRAIN


def test_parts_have_about_their_fractions() -> None:
    parts = [part_of(f"person {number}", SplitConfig(validation=0.05, calibration=0.10)) for number in range(4000)]
    assert parts.count(Part.VALIDATION) / 4000 == pytest.approx(0.05, abs=0.012)
    assert parts.count(Part.CALIBRATION) / 4000 == pytest.approx(0.10, abs=0.015)


@given(
    st.lists(st.floats(-1, 1, width=16), min_size=1, max_size=50),
    st.lists(st.floats(-1, 1, width=16), min_size=1, max_size=50),
)
def test_area_under_the_roc_curve_is_that_of_scikit_learn(genuine: list[float], impostor: list[float]) -> None:
    pairs = PairScores(np.array(genuine, np.float32), np.array(impostor, np.float32))
    expected = roc_auc_score([1] * len(genuine) + [0] * len(impostor), genuine + impostor)
    assert pairs.area_under_roc == pytest.approx(expected)


def test_balanced_accuracy_uses_as_many_impostor_pairs_as_genuine_pairs() -> None:
    random = np.random.default_rng(0)
    separable = PairScores(random.uniform(0.6, 1, 50), random.uniform(-1, 0.4, 5000))
    assert balanced_accuracy(separable) > 0.97
    equal = PairScores(random.uniform(0, 1, 500), random.uniform(0, 1, 5000))
    assert 0.4 < balanced_accuracy(equal) < 0.6
    assert balanced_accuracy(PairScores(np.ones(3), np.zeros(3))) == 0
