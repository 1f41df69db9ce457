"""Checks of a policy at the start of the service."""

import numpy as np

from service.errors import RateNotCalibrated
from service.recognition.decision import DecisionPolicy, DecisionResolver
from service.recognition.operating_point import Comparisons, OperatingPoint


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


def require_resolvable(resolver: DecisionResolver, default: OperatingPoint | None, model_id: str) -> None:
    """Raises RateNotCalibrated or ModelNotLoaded for a default rate that is not calibrated for any gallery."""
    if default is not None:
        resolver.policy_of(model_id).decide(default, Comparisons())


def require_duplicates_decidable(resolver: DecisionResolver, model_id: str) -> tuple[float, float]:
    """Returns the lowest and the highest measured FMR. Raises RateNotCalibrated, ModelNotLoaded."""
    if (measured := resolver.policy_of(model_id).range) is None:
        raise RateNotCalibrated(
            f"the model {model_id!r} has no calibration for the precision in use, which the search for duplicates "
            "needs; set `duplicates` to `allow`",
            pointer="/duplicates",
        )
    return measured
