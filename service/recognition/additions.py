"""The decision whether a picture may be added to an existing identity."""

from collections.abc import Callable

from service.errors import RateNotCalibrated
from service.gallery.people.collections import Collection
from service.recognition.decision import DecisionPolicy, DecisionResolver
from service.recognition.operating_point import OperatingPoint
from service.recognition.policies import AdditionPolicy


def acceptance(resolver: DecisionResolver, collection: Collection) -> Callable[[float, int], bool] | None:
    """Returns the function of `NewEnrolment.accepts`; None: every picture may be added.

    The rate is the collection's default FMR, or the service's. For an identity with so many templates that the rate is
    not calibrated, the lowest measured rate of one comparison applies. Without a calibration nothing is accepted.

    Raises:
        ModelNotLoaded
    """
    if AdditionPolicy(collection.additions) is AdditionPolicy.ANY:
        return None
    policy = resolver.policy_of(collection.model_id)
    point = policy.default if collection.fmr is None else OperatingPoint("fmr", collection.fmr)
    return lambda score, templates: _accepts(policy, point.value, score, templates)


def _accepts(policy: DecisionPolicy, fmr: float, score: float, templates: int) -> bool:
    if policy.range is None:
        return False
    try:
        return score >= policy.threshold_for("fmr", fmr, templates)
    except RateNotCalibrated:
        return score >= policy.threshold_for("fmr", policy.range[0])
