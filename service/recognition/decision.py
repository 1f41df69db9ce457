"""Computes the thresholds for requested error rates, and the error rates at thresholds.

One comparison of two faces is a false match with the false match rate (FMR) of the model's calibration. An identity
with n templates is compared n times, and a gallery of T templates T times. With

    rate of n comparisons = 1 - (1 - rate of one) ** n

a requested FMR holds per identity for any number of templates, and a requested FPIR holds per search for any size of
the gallery. Comparisons with one probe are not independent; the true rate is lower, and never higher than n times the
rate of one comparison (Boole's inequality).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np

from service.errors import ModelNotLoaded, RateNotCalibrated
from service.gallery.people.collections import Collection
from service.gallery.search.search import GallerySize
from service.inference.calibration import Calibration, Precision, rate_of_many, rate_of_one
from service.recognition.measured_rates import MeasuredRates
from service.recognition.operating_point import (
    Comparisons,
    OperatingPoint,
    Rate,
    RateKind,
    default_not_reached,
    not_calibrated,
)

CACHED_DECISIONS = 1024
"""Decisions that a policy caches: searches of one gallery mostly have the same operating point and size."""
OUTLIER_FMR = 1e-2
"""False match rate at the outlier threshold, below which a picture is an outlier of its identity."""


@dataclass(frozen=True)
class Decision:
    """The threshold for an identity with one template, and its error rates.

    Attributes:
        comparisons: None: two faces are compared and no gallery is searched, so there is no FPIR.
        note: why the default rate of the service does not apply; None: it applies, or another rate was requested.
    """

    threshold: float
    comparisons: Comparisons | None
    _policy: "DecisionPolicy"
    _rate_per_person: float | None = None
    note: str | None = None

    @cached_property
    def fmr(self) -> Rate | None:
        """The false match rate against an identity; None: it is unknown. Computed when it is read."""
        rates = self._policy.rates
        if self._rate_per_person is None:
            return None if rates is None else rates.rate_at(self.threshold, self._pictures)
        of_one = rate_of_one(self._rate_per_person, self._pictures)
        interval = None if rates is None else rates.interval_at(self.threshold)
        return Rate(of_one, interval).of_many(self._pictures)

    @cached_property
    def fpir(self) -> Rate | None:
        """The false positive identification rate of a search; None: it is unknown, or no gallery is searched."""
        if self.comparisons is None or self.fmr is None:
            return None
        compared = self.comparisons.templates if self._rate_per_person is None else self.comparisons.people
        return self.fmr.of_many(compared * self.comparisons.faces)

    @property
    def _pictures(self) -> int:
        return 1 if self.comparisons is None else self.comparisons.pictures

    def threshold_for(self, templates: int) -> float:
        """Returns the threshold for an identity with this number of templates. Raises RateNotCalibrated."""
        if self._rate_per_person is None or templates <= 1:
            return self.threshold
        return self._policy.threshold_for("fmr", self._rate_per_person, templates * self._pictures)

    def threshold_at(self, score: float, templates: int) -> float:
        """Returns the threshold to compare with `score`. More templates never lower it: a low score needs no lookup."""
        return self.threshold if score < self.threshold else self.threshold_for(templates)

    def accepts(self, score: float, templates: int = 1) -> bool:
        """Returns True if a score is a match. Raises RateNotCalibrated."""
        return score >= self.threshold_at(score, templates)

    def fmr_against(self, templates: int) -> Rate | None:
        """Returns the false match rate against an identity with this number of templates; None: it is unknown."""
        return self.fmr if self._rate_per_person is not None or self.fmr is None else self.fmr.of_many(templates)


class DecisionPolicy:
    """Resolves operating points through a model's calibration.

    Between two measured points the rate is interpolated in its logarithm, in which the tail of impostor scores is
    nearly linear. A rate outside the measured range is refused.
    """

    def __init__(self, calibration: Calibration | None, precision: Precision, default: OperatingPoint) -> None:
        self.decide = lru_cache(CACHED_DECISIONS)(self._decide)
        self.default = default
        self._calibration: Calibration | None = None
        self.rates: MeasuredRates | None = None
        if calibration is None:
            self._problem = "the model's bundle has no calibration; request a `threshold` instead"
        elif calibration.precision != precision:
            self._problem = (
                f"the model is calibrated in {calibration.precision} and runs in {precision}; request a `threshold`"
            )
        else:
            self._calibration = calibration
            self.rates = MeasuredRates(calibration)

    @property
    def range(self) -> tuple[float, float] | None:
        """The lowest and the highest measured false match rate; None without a calibration."""
        points = None if self._calibration is None else self._calibration.points
        return None if points is None else (points[-1].fmr, points[0].fmr)

    @property
    def outlier_threshold(self) -> float | None:
        """The similarity below which two pictures probably show different people; None if it is not calibrated."""
        if self.range is None or not self.range[0] <= OUTLIER_FMR <= self.range[1]:
            return None
        return self.threshold_for("fmr", OUTLIER_FMR)

    def _decide(self, requested: OperatingPoint | None, comparisons: Comparisons | None) -> Decision:
        """Returns the decision for an operating point, or for the default one.

        Args:
            comparisons: None: two faces are compared and no gallery is searched, so there is no FPIR.

        Raises:
            RateNotCalibrated
        """
        point = requested or self.default
        templates, pictures = (1, 1) if comparisons is None else (comparisons.templates, comparisons.pictures)
        if point.kind == "threshold":
            return Decision(point.value, comparisons, self)
        if point.kind == "fpir":
            compared = templates * pictures * (1 if comparisons is None else comparisons.faces)
            return Decision(self.threshold_for("fpir", point.value, compared), comparisons, self)
        return Decision(self.threshold_for("fmr", point.value, pictures), comparisons, self, point.value)

    def default_for_search(self, fpir: float, comparisons: Comparisons) -> Decision:
        """Returns the decision for searches without a rate: this FPIR, or the default rate if that is stricter.

        The default rate is stricter in a gallery of few people. If the calibration does not reach the FPIR for these
        comparisons, the strictest calibrated threshold applies.

        Raises:
            RateNotCalibrated: there is no calibration.
        """
        try:
            by_fpir, by_default = self.decide(OperatingPoint("fpir", fpir), comparisons), self.decide(None, comparisons)
            return by_default if by_default.threshold > by_fpir.threshold else by_fpir
        except RateNotCalibrated:
            if self.range is None:
                raise
        strictest = Decision(self.threshold_for("fmr", self.range[0]), comparisons, self)
        note = default_not_reached(fpir, comparisons, strictest.fpir, strictest.threshold)
        return replace(strictest, note=note)

    def threshold_for(self, kind: RateKind, rate: float, comparisons: int = 1) -> float:
        """Returns the threshold at which `comparisons` together have the rate.

        For an FPIR above every measured rate, it returns the lowest measured threshold. Raises RateNotCalibrated.
        """
        if self._calibration is None or self.rates is None:
            raise RateNotCalibrated(self._problem, pointer=f"/{kind}")
        lowest, highest = self._calibration.points[-1].fmr, self._calibration.points[0].fmr
        of_one = rate if comparisons <= 1 else rate_of_one(rate, comparisons)
        if kind == "fpir":
            of_one = min(of_one, highest)
        if not lowest * (1 - 1e-9) <= of_one <= highest:
            raise RateNotCalibrated(
                not_calibrated(kind, rate, comparisons, of_one, lowest, highest),
                pointer=f"/{kind}",
                lowest=rate_of_many(lowest, comparisons),
                highest=rate_of_many(highest, comparisons),
            )
        return float(np.interp(-np.log10(of_one), -self.rates.log_rates, self.rates.thresholds))


@dataclass(frozen=True)
class DecisionResolver:
    """Resolves the operating point of a request or, without one, of its collection or of the service's settings.

    Attributes:
        policies: by model id, the main model's first.
        duplicate_fpir, fpir: FPIR of the search for duplicates, and default FPIR of searches.
    """

    policies: Mapping[str, DecisionPolicy]
    duplicate_fpir: float = 0.01
    fpir: float = 0.01

    def policy_of(self, model_id: str) -> DecisionPolicy:
        """Returns a model's policy. Raises ModelNotLoaded."""
        if (policy := self.policies.get(model_id)) is None:
            raise ModelNotLoaded(f"the service does not run the model {model_id!r}; GET /models lists its models")
        return policy

    def for_search(
        self,
        collection: Collection,
        size: GallerySize,
        requested: OperatingPoint | None,
        pictures: int = 1,
        faces: int = 1,
    ) -> Decision:
        """Returns the decision for `faces` probes, each fused of `pictures`, that are searched for in a gallery.

        Raises:
            RateNotCalibrated, ModelNotLoaded
        """
        comparisons = Comparisons(size.people, size.templates, pictures, faces)
        if requested is None and collection.fmr is collection.fpir is None:
            return self.policy_of(collection.model_id).default_for_search(self.fpir, comparisons)
        return self._resolve(collection, comparisons, requested)

    def for_gallery(self, collection: Collection, size: GallerySize, requested: OperatingPoint | None) -> Decision:
        """Returns the decision for a comparison with an identity of a gallery.

        Raises:
            RateNotCalibrated, ModelNotLoaded
        """
        return self._resolve(collection, Comparisons(size.people, size.templates), requested)

    def _resolve(self, collection: Collection, comparisons: Comparisons, requested: OperatingPoint | None) -> Decision:
        policy = self.policy_of(collection.model_id)
        if requested is not None or collection.fmr is collection.fpir is None:
            return policy.decide(requested, comparisons)
        try:
            return policy.decide(OperatingPoint.from_request(collection.fmr, collection.fpir), comparisons)
        except RateNotCalibrated as error:
            raise RateNotCalibrated(
                f"the default rate of the collection {collection.name!r} is not calibrated for its present size, and "
                f"the request has no rate: {error.detail}. PATCH /collections/{collection.name} changes the default",
                **error.extensions,
            ) from None

    @cached_property
    def outliers_below(self) -> dict[str, float]:
        """For each model the similarity below which two pictures probably show different people; -1: it is unknown."""
        thresholds = {model_id: policy.outlier_threshold for model_id, policy in self.policies.items()}
        return {model_id: -1.0 if value is None else value for model_id, value in thresholds.items()}
