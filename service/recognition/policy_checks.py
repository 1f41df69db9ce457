"""Checks of a policy at the start of the service."""

import numpy as np

from service.errors import RateNotCalibrated
from service.recognition.decision import DecisionPolicy
from service.recognition.operating_point import Comparisons


def default_problem(policy: DecisionPolicy) -> str | None:
    """Returns the reason why the default operating point has no threshold, or None."""
    try:
        policy.decide(None, Comparisons())
    except RateNotCalibrated as error:
        return error.detail
    return None


def most_templates(policy: DecisionPolicy) -> int | None:
    """Returns the maximum number of templates per identity at which the default FMR is calibrated; None: unknown."""
    if policy.range is None or policy.default.kind != "fmr":
        return None
    lowest = policy.range[0] * (1 - 1e-9)
    return int(np.log1p(-policy.default.value) / np.log1p(-lowest))
