"""From an asked error rate to a threshold, and from a threshold to the error rates that it stands for.

One comparison of two faces is a false match at the false match rate (FMR) that the model was calibrated for. A person
with n templates is compared n times, and a gallery of T templates T times. With

    rate of n comparisons = 1 - (1 - rate of one) ** n

an asked FMR is kept *per person* whatever the number of templates, and an asked FPIR *per search* whatever the size of
the gallery. Comparisons with one probe depend on each other, which makes the true rate lower than that, never higher
than n times the rate of one (Boole's inequality).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from service.errors import FmrNotCalibrated
from service.inference.bundle import Calibration, Interval, Precision
from service.inference.rates import rate_of_many, rate_of_one

SMALLEST_RATE = 1e-12
"""Stands for zero where a logarithm is taken."""
RateKind = Literal["fmr", "fpir"]


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """What a caller asks for: a false match rate per person, a false positive rate per search, or a bare threshold."""

    kind: Literal["fmr", "fpir", "threshold"]
    value: float

    @classmethod
    def one_of(
        cls, fmr: float | None = None, fpir: float | None = None, threshold: float | None = None
    ) -> "OperatingPoint | None":
        """The one that is given, or None."""
        if fmr is not None:
            return cls("fmr", fmr)
        if fpir is not None:
            return cls("fpir", fpir)
        return None if threshold is None else cls("threshold", threshold)


@dataclass(frozen=True, slots=True)
class Comparisons:
    """With how many people and templates a probe is compared."""

    people: int = 1
    templates: int = 1
    pictures: int = 1
    """Of the probe: pictures fused into one embedding. Their rate of false matches is below that of so many comparisons
    and above that of one (`python -m tools.fused_probes`)."""


@dataclass(frozen=True, slots=True)
class Rate:
    """An error rate; `interval` is its 95 % confidence interval, None where the calibration came without."""

    value: float
    interval: Interval | None


@dataclass(frozen=True, slots=True)
class Decision:
    """The threshold in force for a person with one template, and the rates that it stands for where they are known."""

    threshold: float
    fmr: Rate | None
    fpir: Rate | None
    _policy: "DecisionPolicy"
    _rate_per_person: float | None = None
    _pictures: int = 1

    def threshold_for(self, templates: int) -> float:
        """The threshold for a person with so many templates: an FMR per person asks more of each comparison.

        Raises:
            FmrNotCalibrated: the model was not measured that far.
        """
        if self._rate_per_person is None or templates <= 1:
            return self.threshold
        return self._policy.threshold_for("fmr", self._rate_per_person, templates * self._pictures)

    def threshold_at(self, score: float, templates: int) -> float:
        """What a score is compared with; below the threshold for one template no other is asked for.

        Raises:
            FmrNotCalibrated: the answer depends on a rate that was not measured.
        """
        return self.threshold if score < self.threshold else self.threshold_for(templates)

    def accepts(self, score: float, templates: int = 1) -> bool:
        """Raises FmrNotCalibrated where the answer depends on a rate that was not measured."""
        return score >= self.threshold_at(score, templates)

    def fmr_against(self, templates: int) -> Rate | None:
        """The false match rate against one person with so many templates."""
        return self.fmr if self._rate_per_person is not None else _of_many(self.fmr, templates)


class DecisionPolicy:
    """Resolves operating points through a model's calibration.

    Between two measured points a rate is interpolated in its logarithm, in which the tail of impostor scores is nearly
    straight. Beyond the last measured point nothing is known, and nothing is made up.
    """

    def __init__(self, calibration: Calibration | None, precision: Precision, default: OperatingPoint) -> None:
        self._default = default
        self._calibration: Calibration | None = None
        if calibration is None:
            self._reason = "the model's bundle has no calibration; ask for a `threshold` instead"
        elif calibration.precision != precision:
            self._reason = (
                f"the model was calibrated in {calibration.precision} and runs in {precision}; "
                "ask for a `threshold` instead"
            )
        else:
            self._calibration = calibration
            self._thresholds = np.array([point.threshold for point in calibration.points])
            self._log_rates = np.log10([point.fmr for point in calibration.points])
            self._log_lows, self._log_highs = _log_intervals(calibration)

    @property
    def range(self) -> tuple[float, float] | None:
        """The lowest and the highest false match rate that was measured, or None."""
        points = None if self._calibration is None else self._calibration.points
        return None if points is None else (points[-1].fmr, points[0].fmr)

    def decide(self, asked: OperatingPoint | None, comparisons: Comparisons | None) -> Decision:
        """The decision for an operating point, or for the default one where none is asked for.

        Without `comparisons` two faces are compared and nothing is searched: there is no FPIR.

        Raises:
            FmrNotCalibrated: the model can't tell this rate, and says which it can.
        """
        point = asked or self._default
        pictures = 1 if comparisons is None else comparisons.pictures
        if point.kind == "threshold":
            return self._decision(point.value, comparisons)
        if point.kind == "fpir":
            templates = 1 if comparisons is None else comparisons.templates
            return self._decision(self.threshold_for("fpir", point.value, templates * pictures), comparisons)
        threshold = self.threshold_for("fmr", point.value, pictures)
        fmr = _of_many(Rate(rate_of_one(point.value, pictures), self._interval(threshold)), pictures)
        fpir = None if comparisons is None else _of_many(fmr, comparisons.people)
        return Decision(threshold, fmr, fpir, self, point.value, pictures)

    def default_problem(self) -> str | None:
        """Why the default operating point has no threshold, or None."""
        try:
            self.decide(None, Comparisons())
        except FmrNotCalibrated as error:
            return error.detail
        return None

    @property
    def most_templates(self) -> int | None:
        """Of a person for whom the default false match rate can be kept; None: nothing is known of it."""
        if self._calibration is None or self._default.kind != "fmr":
            return None
        lowest = self._calibration.points[-1].fmr * (1 - 1e-9)
        return int(np.log1p(-self._default.value) / np.log1p(-lowest))

    def threshold_for(self, kind: RateKind, rate: float, comparisons: int = 1) -> float:
        """The threshold at which `comparisons` together have a rate.

        An FPIR that is larger than anything measured takes the loosest measured threshold, which keeps it.

        Raises:
            FmrNotCalibrated
        """
        if self._calibration is None:
            raise FmrNotCalibrated(self._reason, pointer=f"/{kind}")
        lowest, highest = self._calibration.points[-1].fmr, self._calibration.points[0].fmr
        of_one = rate_of_one(rate, comparisons)
        if kind == "fpir":
            of_one = min(of_one, highest)
        if not lowest * (1 - 1e-9) <= of_one <= highest:
            raise FmrNotCalibrated(
                _refusal(kind, rate, comparisons, of_one, lowest, highest),
                pointer=f"/{kind}",
                lowest=rate_of_many(lowest, comparisons),
                highest=rate_of_many(highest, comparisons),
            )
        return self._calibration.threshold_for(of_one)

    def fmr_at(self, threshold: float) -> float | None:
        """The rate that a threshold stands for in one comparison, or None outside of what was measured."""
        if self._calibration is None or not self._thresholds[0] <= threshold <= self._thresholds[-1]:
            return None
        return float(10 ** np.interp(threshold, self._thresholds, self._log_rates))

    def _decision(self, threshold: float, comparisons: Comparisons | None) -> Decision:
        value = self.fmr_at(threshold)
        pictures = 1 if comparisons is None else comparisons.pictures
        fmr = None if value is None else _of_many(Rate(value, self._interval(threshold)), pictures)
        fpir = None if comparisons is None else _of_many(fmr, comparisons.templates)
        return Decision(threshold, fmr, fpir, self, None, pictures)

    def _interval(self, threshold: float) -> Interval | None:
        if self._log_lows is None or self._log_highs is None:
            return None
        low, high = (10 ** np.interp(threshold, self._thresholds, logs) for logs in (self._log_lows, self._log_highs))
        return float(low) if low > 2 * SMALLEST_RATE else 0.0, float(high)


def _of_many(rate: Rate | None, comparisons: int) -> Rate | None:
    if rate is None:
        return None
    interval = rate.interval
    if interval is not None:
        interval = (rate_of_many(interval[0], comparisons), rate_of_many(interval[1], comparisons))
    return Rate(rate_of_many(rate.value, comparisons), interval)


def _log_intervals(calibration: Calibration) -> "tuple[np.ndarray | None, np.ndarray | None]":
    intervals = [point.fmr_interval for point in calibration.points]
    if any(interval is None for interval in intervals):
        return None, None
    lows, highs = np.log10(np.maximum(np.array(intervals, float), SMALLEST_RATE)).T
    return lows, highs


def _refusal(kind: RateKind, rate: float, comparisons: int, of_one: float, lowest: float, highest: float) -> str:
    if comparisons <= 1:
        return f"the model is calibrated for false match rates from {lowest:g} to {highest:g}; {rate:g} is outside"
    least = rate_of_many(lowest, comparisons)
    where = "a gallery of" if kind == "fpir" else "a person with"
    advice = f"ask for {kind}={_ceil(least):g} or more" if _ceil(least) < 1 else "ask for a `threshold` instead"
    return (
        f"{kind}={rate:g} against {where} {comparisons:,} templates needs a false match rate of {of_one:.2g} in each "
        f"comparison, and the model is calibrated down to {lowest:g}: {advice}"
    )


def _ceil(rate: float) -> float:
    """Two significant digits, rounded up, so that the advice holds."""
    scale = 10 ** (np.floor(np.log10(rate)) - 1)
    return float(np.ceil(rate / scale * (1 - 1e-9)) * scale)
