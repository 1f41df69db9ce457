"""Decisions of searches: the default FPIR, and several faces of one request."""

import pytest

from service.errors import RateNotCalibrated
from service.inference.calibration import rate_of_many
from service.recognition.decision import DecisionPolicy
from service.recognition.operating_point import Comparisons
from tests.unit.test_decision import ONE, POLICY, fmr, fpir


def test_a_search_without_a_rate_keeps_the_default_fpir() -> None:
    gallery = Comparisons(people=50, templates=50)
    decision = POLICY.default_for_search(0.01, gallery)
    assert decision == POLICY.decide(fpir(0.01), gallery)
    assert decision.note is None
    assert POLICY.default_for_search(0.5, ONE) == POLICY.decide(None, ONE)  # the FMR is stricter


def test_a_default_fpir_beyond_the_calibration_gives_the_strictest_threshold_and_a_note() -> None:
    decision = POLICY.default_for_search(0.01, Comparisons(people=1000, templates=1000))
    assert decision.threshold == pytest.approx(0.5)
    assert decision.fpir is not None
    assert decision.fpir.value == pytest.approx(rate_of_many(0.0001, 1000))
    assert decision.note is not None
    assert "1,000 templates" in decision.note
    with pytest.raises(RateNotCalibrated):
        DecisionPolicy(None, "f32", fmr(0.01)).default_for_search(0.01, ONE)


def test_an_fpir_is_divided_among_the_faces_of_a_request() -> None:
    one, ten = Comparisons(people=10, templates=10), Comparisons(people=10, templates=10, faces=10)
    several = POLICY.decide(fpir(0.05), ten)
    assert several.threshold == POLICY.decide(fpir(0.05), Comparisons(people=100, templates=100)).threshold
    assert several.threshold > POLICY.decide(fpir(0.05), one).threshold
    assert several.fpir is not None
    assert several.fpir.value == pytest.approx(0.05)
    assert POLICY.decide(fmr(0.001), ten).threshold == POLICY.decide(fmr(0.001), one).threshold
