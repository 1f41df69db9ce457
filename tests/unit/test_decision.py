import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from service.errors import FmrNotCalibrated
from service.inference.bundle import Calibration, CalibrationPoint
from service.recognition.decision import DecisionPolicy


def calibration(*points: tuple[float, float]) -> Calibration:
    return Calibration(
        precision="f32",
        impostor_pairs=1_000_000,
        genuine_pairs=1000,
        data="test",
        points=[CalibrationPoint(fmr=fmr, threshold=threshold, fnmr=0.1) for fmr, threshold in points],
    )


POLICY = DecisionPolicy(calibration((0.1, 0.2), (0.01, 0.4), (0.0001, 0.5)), "f32", default_fmr=0.01)


def test_a_measured_rate_has_its_threshold() -> None:
    assert POLICY.decide(0.0001, None).threshold == pytest.approx(0.5)
    assert POLICY.decide(0.1, None).threshold == pytest.approx(0.2)


def test_between_two_points_the_logarithm_is_interpolated() -> None:
    assert POLICY.threshold_for(0.001) == pytest.approx(0.45)


def test_nothing_asked_is_the_default() -> None:
    decision = POLICY.decide(None, None)
    assert (decision.threshold, decision.fmr) == (pytest.approx(0.4), 0.01)


def test_a_threshold_says_its_rate() -> None:
    assert POLICY.decide(None, 0.45).fmr == pytest.approx(0.001)


@pytest.mark.parametrize("threshold", [-1.0, 0.19, 0.51, 1.0])
def test_a_threshold_outside_of_what_was_measured_has_no_rate(threshold: float) -> None:
    decision = POLICY.decide(None, threshold)
    assert decision.fmr is None
    assert decision.accepts(threshold)


@pytest.mark.parametrize("fmr", [0.2, 9e-5, 1e-9])
def test_a_rate_outside_of_what_was_measured_is_refused(fmr: float) -> None:
    with pytest.raises(FmrNotCalibrated, match=r"from 0\.0001 to 0\.1"):
        POLICY.decide(fmr, None)


@given(st.floats(-3.99, -1.01), st.floats(-3.99, -1.01))
def test_a_stricter_rate_never_has_a_lower_threshold(a: float, b: float) -> None:
    low, high = sorted((a, b))
    assert POLICY.threshold_for(10**low) >= POLICY.threshold_for(10**high) - 1e-12


@given(st.floats(-3.99, -1.01))
def test_rate_and_threshold_are_each_others_inverse(exponent: float) -> None:
    rate = 10**exponent
    assert POLICY.fmr_at(POLICY.threshold_for(rate)) == pytest.approx(rate, rel=1e-6)


def test_thresholds_of_another_precision_are_not_ours() -> None:
    policy = DecisionPolicy(calibration((0.1, 0.2), (0.01, 0.4)), "bf16", 0.01)
    with pytest.raises(FmrNotCalibrated, match="calibrated in f32 and runs in bf16"):
        policy.decide(0.05, None)
    assert policy.decide(None, 0.3).fmr is None


def test_without_a_calibration_only_thresholds_work() -> None:
    policy = DecisionPolicy(None, "f32", 0.01)
    assert policy.decide(None, 0.3).threshold == 0.3
    with pytest.raises(FmrNotCalibrated, match="no calibration"):
        policy.decide(None, None)


@pytest.mark.parametrize("points", [[(0.01, 0.4), (0.1, 0.2)], [(0.1, 0.4), (0.01, 0.2)], [(0.1, 0.2), (0.1, 0.3)]])
def test_a_table_that_does_not_run_one_way_is_refused(points: list[tuple[float, float]]) -> None:
    with pytest.raises(ValidationError):
        calibration(*points)
