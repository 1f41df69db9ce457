"""Operating points, error rates, and the message for a rate that a calibration does not cover."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from service.inference.calibration import Calibration, Interval, rate_of_many

Floats = npt.NDArray[np.float64]
RateKind = Literal["fmr", "fpir"]
SMALLEST_RATE = 1e-12
"""Replaces zero before a logarithm."""


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """A false match rate per identity, a false positive identification rate per search, or a threshold."""

    kind: Literal["fmr", "fpir", "threshold"]
    value: float

    @classmethod
    def from_request(
        cls, fmr: float | None = None, fpir: float | None = None, threshold: float | None = None
    ) -> "OperatingPoint | None":
        """Returns the operating point whose value is not None; None if all are None."""
        if fmr is not None:
            return cls("fmr", fmr)
        if fpir is not None:
            return cls("fpir", fpir)
        return None if threshold is None else cls("threshold", threshold)


@dataclass(frozen=True, slots=True)
class Comparisons:
    """The number of identities and templates with which a probe is compared.

    Attributes:
        pictures: the number of pictures that are fused into the probe. The false match rate of a fused probe lies
            between that of one and that of `pictures` comparisons (`python -m tools.fused_probes`).
        faces: the number of probes of the request, for example the faces of a picture. An FPIR is that of the request.
    """

    people: int = 1
    templates: int = 1
    pictures: int = 1
    faces: int = 1


@dataclass(frozen=True, slots=True)
class Rate:
    """An error rate and its 95 % confidence interval; None if the calibration has no intervals."""

    value: float
    interval: Interval | None

    def of_many(self, comparisons: int) -> "Rate":
        """Returns the rate of at least one error in `comparisons` independent comparisons."""
        interval = self.interval
        if interval is not None:
            interval = (rate_of_many(interval[0], comparisons), rate_of_many(interval[1], comparisons))
        return Rate(rate_of_many(self.value, comparisons), interval)


def not_calibrated(kind: RateKind, rate: float, comparisons: int, of_one: float, lowest: float, highest: float) -> str:
    """Returns the message for a rate outside the calibration.

    Args:
        of_one: the rate that each comparison would need.
        lowest, highest: the range of rates of one comparison that was measured.
    """
    if comparisons <= 1:
        return f"the model is calibrated for false match rates from {lowest:g} to {highest:g}; {rate:g} is outside"
    minimum = _round_up(rate_of_many(lowest, comparisons))
    where = "a gallery of" if kind == "fpir" else "an identity with"
    advice = f"request {kind}={minimum:g} or more" if minimum < 1 else "request a `threshold` instead"
    return (
        f"{kind}={rate:g} against {where} {comparisons:,} templates needs a false match rate of {of_one:.2g} in each "
        f"comparison, and the model is calibrated down to {lowest:g}: {advice}"
    )


def default_not_reached(fpir: float, comparisons: Comparisons, reached: Rate | None, threshold: float) -> str:
    """Returns the note about a search whose default FPIR the calibration does not reach.

    Args:
        reached: the FPIR at the strictest calibrated threshold.
    """
    rate = "unknown" if reached is None else f"up to {reached.value:.2g}"
    return (
        f"the calibration does not reach the default fpir={fpir:g} for {comparisons.templates:,} templates; decided by "
        f"its strictest threshold, with an fpir of {rate}. For stricter decisions send a `threshold` above "
        f"{threshold:.3f}"
    )


def _round_up(rate: float) -> float:
    """Rounds up to two significant digits, so that the recommended rate is calibrated."""
    scale = 10 ** (np.floor(np.log10(rate)) - 1)
    return float(np.ceil(rate / scale * (1 - 1e-9)) * scale)


def log_bounds(calibration: Calibration) -> tuple[Floats, Floats] | None:
    """Returns the logarithms of the lower and upper bounds of the points' intervals; None if one has no interval."""
    intervals = [point.fmr_interval for point in calibration.points]
    if any(interval is None for interval in intervals):
        return None
    lows, highs = np.log10(np.maximum(np.array(intervals, float), SMALLEST_RATE)).T
    return lows, highs
