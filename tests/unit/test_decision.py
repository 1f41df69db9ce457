"""Thresholds, error rates and their limits, computed from a calibration table."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from service.errors import RateNotCalibrated
from service.inference.calibration import Calibration, CalibrationPoint, rate_of_many, rate_of_one
from service.recognition.decision import DecisionPolicy
from service.recognition.operating_point import Comparisons, OperatingPoint
from service.recognition.policy_checks import most_templates

ONE = Comparisons()


def fmr(value: float) -> OperatingPoint:
    return OperatingPoint("fmr", value)


def fpir(value: float) -> OperatingPoint:
    return OperatingPoint("fpir", value)


def at(value: float) -> OperatingPoint:
    return OperatingPoint("threshold", value)


def calibration(*points: tuple[float, float], intervals: bool = True) -> Calibration:
    return Calibration(
        precision="f32",
        impostor_pairs=1_000_000,
        genuine_pairs=1000,
        data="test",
        points=[
            CalibrationPoint(
                fmr=rate, threshold=threshold, fnmr=0.1, fmr_interval=(rate / 2, rate * 2) if intervals else None
            )
            for rate, threshold in points
        ],
    )


TABLE = calibration((0.1, 0.2), (0.01, 0.4), (0.0001, 0.5))
POLICY = DecisionPolicy(TABLE, "f32", fmr(0.01))


def test_a_measured_rate_has_the_measured_threshold() -> None:
    assert POLICY.decide(fmr(0.0001), ONE).threshold == pytest.approx(0.5)
    assert POLICY.decide(fmr(0.1), ONE).threshold == pytest.approx(0.2)


def test_thresholds_between_two_points_are_interpolated_in_the_logarithm_of_the_rate() -> None:
    assert POLICY.threshold_for("fmr", 0.001) == pytest.approx(0.45)


@given(st.floats(0.0001, 0.1))
def test_the_policy_has_the_thresholds_of_the_calibration(rate: float) -> None:
    assert POLICY.threshold_for("fmr", rate) == pytest.approx(TABLE.threshold_for(rate), abs=1e-12)


def test_without_an_operating_point_the_default_applies() -> None:
    decision = POLICY.decide(None, ONE)
    assert decision.fmr is not None
    assert (decision.threshold, decision.fmr.value) == (pytest.approx(0.4), 0.01)


def test_a_threshold_has_a_rate_with_a_confidence_interval() -> None:
    rate = POLICY.decide(at(0.45), ONE).fmr
    assert rate is not None
    assert rate.value == pytest.approx(0.001)
    assert rate.interval == (pytest.approx(0.0005), pytest.approx(0.002))


@pytest.mark.parametrize("threshold", [-1.0, 0.19, 0.51, 1.0])
def test_a_threshold_outside_the_measured_range_has_no_rate(threshold: float) -> None:
    decision = POLICY.decide(at(threshold), ONE)
    assert (decision.fmr, decision.fpir) == (None, None)
    assert decision.accepts(threshold)


@pytest.mark.parametrize("rate", [0.2, 9e-5, 1e-9])
def test_a_rate_outside_the_measured_range_is_refused(rate: float) -> None:
    with pytest.raises(RateNotCalibrated, match=r"from 0\.0001 to 0\.1"):
        POLICY.decide(fmr(rate), ONE)


def test_an_fpir_is_divided_among_the_templates_of_the_gallery() -> None:
    decision = POLICY.decide(fpir(0.01), Comparisons(people=50, templates=100))
    assert decision.threshold == pytest.approx(POLICY.threshold_for("fmr", 0.0001005), abs=1e-4)
    assert decision.fpir is not None
    assert decision.fpir.value == pytest.approx(0.01)
    assert decision.threshold_for(7) == decision.threshold  # The FPIR already accounts for every template.


def test_an_fpir_in_an_empty_gallery_is_that_of_one_comparison() -> None:
    assert POLICY.decide(fpir(0.01), Comparisons(0, 0)).threshold == pytest.approx(0.4)


def test_a_high_fpir_has_the_lowest_measured_threshold() -> None:
    decision = POLICY.decide(fpir(0.9), ONE)
    assert decision.threshold == 0.2
    assert decision.fpir is not None
    assert decision.fpir.value == pytest.approx(0.1)


def test_an_fpir_too_low_for_the_gallery_is_refused_with_the_lowest_possible_one() -> None:
    size = Comparisons(10_000, 10_000)
    with pytest.raises(RateNotCalibrated, match=r"10,000 templates .* request fpir=0\.64 or more"):
        POLICY.decide(fpir(0.01), size)
    assert POLICY.decide(fpir(0.64), size).threshold == pytest.approx(0.5, abs=1e-3)


def test_the_threshold_rises_with_the_number_of_templates() -> None:
    decision = POLICY.decide(fmr(0.01), ONE)
    assert decision.threshold_for(1) == pytest.approx(0.4)
    assert decision.threshold_for(10) == pytest.approx(0.45, abs=1e-3)
    assert decision.accepts(0.44, templates=1)
    assert not decision.accepts(0.44, templates=10)


def test_too_many_templates_for_the_calibration_are_refused_only_if_the_outcome_depends_on_it() -> None:
    decision = POLICY.decide(fmr(0.0001), ONE)
    assert not decision.accepts(0.49, templates=5)
    with pytest.raises(RateNotCalibrated, match=r"an identity with 5 templates .* request fmr=0\.0005 or more"):
        decision.accepts(0.51, templates=5)


def test_the_reported_threshold_accounts_for_templates_only_if_the_outcome_depends_on_them() -> None:
    decision = POLICY.decide(fmr(0.01), ONE)
    assert decision.threshold_at(0.3, 1_000_000) == decision.threshold
    assert decision.threshold_at(0.42, 10) == decision.threshold_for(10)


def test_the_rate_against_a_person_accounts_for_their_templates() -> None:
    assert POLICY.decide(fmr(0.01), ONE).fmr_against(5) == POLICY.decide(fmr(0.01), ONE).fmr
    rate = POLICY.decide(at(0.4), ONE).fmr_against(5)
    assert rate is not None
    assert rate.value == pytest.approx(rate_of_many(0.01, 5))


def test_a_verification_has_no_fpir() -> None:
    assert POLICY.decide(fmr(0.01), None).fpir is None
    assert POLICY.decide(at(0.4), None).fpir is None


def test_an_interval_may_begin_at_zero() -> None:
    points = [
        CalibrationPoint(fmr=0.1, threshold=0.2, fnmr=0.1, fmr_interval=(0.05, 0.2)),
        CalibrationPoint(fmr=0.01, threshold=0.4, fnmr=0.1, fmr_interval=(0.0, 0.05)),
    ]
    policy = DecisionPolicy(TABLE.model_copy(update={"points": points}), "f32", fmr(0.01))
    rare, common = policy.decide(fmr(0.01), ONE).fmr, policy.decide(fmr(0.1), ONE).fmr
    assert rare is not None
    assert common is not None
    assert (rare.interval, common.interval) == ((0.0, pytest.approx(0.05)), (pytest.approx(0.05), pytest.approx(0.2)))


def test_the_error_recommends_a_threshold_if_no_rate_is_possible() -> None:
    with pytest.raises(RateNotCalibrated, match="request a `threshold` instead"):
        POLICY.decide(fpir(0.01), Comparisons(10**7, 10**7))


def test_an_explicit_threshold_is_never_changed() -> None:
    decision = POLICY.decide(at(0.45), Comparisons(100, 1000))
    assert decision.threshold_for(50) == 0.45
    assert decision.fpir is not None
    assert decision.fpir.value == pytest.approx(rate_of_many(0.001, 1000))


def test_a_calibration_without_intervals_gives_rates_without_intervals() -> None:
    policy = DecisionPolicy(calibration((0.1, 0.2), (0.01, 0.4), intervals=False), "f32", fmr(0.01))
    rate = policy.decide(None, ONE).fmr
    assert rate is not None
    assert rate.interval is None


RATES = st.floats(-3.99, -1.01).map(lambda exponent: 10**exponent)


@given(RATES, RATES)
def test_a_stricter_rate_never_has_a_lower_threshold(a: float, b: float) -> None:
    low, high = sorted((a, b))
    assert POLICY.threshold_for("fmr", low) >= POLICY.threshold_for("fmr", high) - 1e-12


@given(RATES)
def test_rate_and_threshold_are_inverse_functions(rate: float) -> None:
    assert POLICY.rates is not None
    assert POLICY.rates.fmr_at(POLICY.threshold_for("fmr", rate)) == pytest.approx(rate, rel=1e-6)


@given(st.floats(1e-9, 0.99), st.integers(1, 10**7))
def test_rate_of_many_and_rate_of_one_are_inverse_functions(rate: float, count: int) -> None:
    assert rate_of_many(rate_of_one(rate, count), count) == pytest.approx(rate, rel=1e-6)


@given(st.floats(1e-9, 0.99), st.integers(1, 10**7))
def test_rate_of_one_is_at_least_the_quotient_and_rate_of_many_at_most_the_product(rate: float, count: int) -> None:
    """By Boole's inequality the rate of many is at most `count` times the rate of one."""
    of_one = rate_of_one(rate, count)
    assert rate / count <= of_one * (1 + 1e-9)
    assert rate_of_many(of_one, count) <= min(count * of_one, 1) * (1 + 1e-9)


@given(RATES, st.integers(1, 500), st.integers(1, 500))
def test_a_larger_gallery_never_has_a_lower_threshold(rate: float, a: int, b: int) -> None:
    small, large = sorted((a, b))
    assume(rate_of_one(rate, large) >= 1e-4)
    decide = [POLICY.decide(fpir(rate), Comparisons(size, size)).threshold for size in (small, large)]
    assert decide[0] <= decide[1] + 1e-12


def test_a_calibration_in_another_precision_does_not_apply() -> None:
    policy = DecisionPolicy(TABLE, "bf16", fmr(0.01))
    for operating_point in (fmr(0.05), fpir(0.05), None):
        with pytest.raises(RateNotCalibrated, match="calibrated in f32 and runs in bf16"):
            policy.decide(operating_point, ONE)
    assert policy.decide(at(0.3), ONE).fmr is None


def test_without_a_calibration_only_thresholds_are_possible() -> None:
    policy = DecisionPolicy(None, "f32", fmr(0.01))
    assert policy.decide(at(0.3), ONE).threshold == 0.3
    with pytest.raises(RateNotCalibrated, match="no calibration"):
        policy.decide(None, ONE)


@pytest.mark.parametrize("points", [[(0.01, 0.4), (0.1, 0.2)], [(0.1, 0.4), (0.01, 0.2)], [(0.1, 0.2), (0.1, 0.3)]])
def test_a_table_that_is_not_monotonic_is_refused(points: list[tuple[float, float]]) -> None:
    with pytest.raises(ValidationError):
        calibration(*points)


def test_the_default_rate_is_possible_up_to_a_number_of_templates() -> None:
    maximum = most_templates(POLICY)
    assert maximum == 100  # 1 - (1 - 1e-4) ** 100 = 0.00995
    decision = POLICY.decide(None, ONE)
    assert decision.threshold_for(maximum) == pytest.approx(0.5, abs=1e-3)
    with pytest.raises(RateNotCalibrated):
        decision.threshold_for(maximum + 1)
    assert most_templates(DecisionPolicy(TABLE, "f32", at(0.4))) is None
    assert most_templates(DecisionPolicy(None, "f32", fmr(0.01))) is None
