"""Thresholds of a model, the error rates that were measured at them, and conversions between error rates.

FMR, FNMR, FPIR and FNIR are defined in ISO/IEC 19795-1. All rates are fractions from 0 to 1; all thresholds are cosine
similarities from -1 to 1.
"""

from typing import Literal, Self

import numpy as np
from pydantic import AliasChoices, Field, model_validator

from service.strict_model import Strict

Precision = Literal["f32", "bf16"]
"""Number format in which a runtime multiplies: IEEE 754 binary32 or bfloat16."""

Interval = tuple[float, float]
"""Lower and upper bound of a rate's 95 % confidence interval, by bootstrap over people."""


class CalibrationPoint(Strict):
    """A threshold with the false match rate and the false non-match rate that were measured at it."""

    fmr: float = Field(gt=0, lt=1)
    threshold: float = Field(ge=-1, le=1)
    fnmr: float | None = Field(None, ge=0, le=1, description="null: measured on faces of people with one picture each")
    fmr_interval: Interval | None = None
    fnmr_interval: Interval | None = None


class IdentificationPoint(Strict):
    """Error rates of searches in galleries of one size, at the threshold that the model uses for a requested FPIR.

    Attributes:
        gallery_size: number of people in the gallery, with one template each.
        requested_fpir: the requested false positive identification rate.
        fpir: the measured one; its interval is by bootstrap over the people who were searched for.
        fnir: measured false negative identification rate. A search counts as an error if the score of the right person
            is below the threshold or if another person has a higher score.
    """

    gallery_size: int = Field(ge=1)
    requested_fpir: float = Field(gt=0, lt=1, validation_alias=AliasChoices("requested_fpir", "asked_fpir"))
    threshold: float = Field(ge=-1, le=1)
    fpir: float = Field(ge=0, le=1)
    fpir_interval: Interval
    fnir: float = Field(ge=0, le=1)


class Calibration(Strict):
    """Thresholds for requested false match rates, measured on people who are not in the training data.

    Attributes:
        precision: number format of the runtime during the measurement.
        points: from the highest false match rate to the lowest. At least ten impostor pairs lie above every threshold.
    """

    precision: Precision
    impostor_pairs: int = Field(ge=1)
    genuine_pairs: int = Field(ge=0)
    data: str
    people: int | None = Field(None, ge=2)
    points: list[CalibrationPoint] = Field(min_length=2)
    identification: list[IdentificationPoint] = Field(default_factory=list)
    picture: str | None = Field(None, description="file of the bundle with the DET curve as SVG")

    @model_validator(mode="after")
    def _is_monotonic(self) -> Self:
        rates = [point.fmr for point in self.points]
        thresholds = [point.threshold for point in self.points]
        if rates != sorted(set(rates), reverse=True) or thresholds != sorted(thresholds):
            raise ValueError("order calibration points from high to low FMR; their thresholds must not decrease")
        return self

    def threshold_for(self, fmr: float) -> float:
        """Returns the threshold for a false match rate.

        Interpolates linearly in the logarithm of the rate, in which the tail of impostor scores is nearly straight. A
        rate outside the measured range gets the threshold of the nearest point.
        """
        log_rates = np.log10([point.fmr for point in reversed(self.points)])
        return float(np.interp(np.log10(fmr), log_rates, [point.threshold for point in reversed(self.points)]))


def rate_of_many(rate: float, comparisons: int) -> float:
    """Returns the probability of at least one false match in this many independent comparisons: 1 - (1 - rate)^n.

    No comparison counts as one, so that rates of an empty gallery are those of a pair.
    """
    return float(-np.expm1(max(comparisons, 1) * np.log1p(-rate)))


def rate_of_one(rate: float, comparisons: int) -> float:
    """Returns the rate of one comparison at which `comparisons` independent ones have `rate`: 1 - (1 - rate)^(1/n).

    Zero comparisons count as one.
    """
    return float(-np.expm1(np.log1p(-rate) / max(comparisons, 1)))
