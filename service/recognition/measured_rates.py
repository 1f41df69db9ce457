"""Interpolates between the points of a calibration, with arrays that are computed once."""

import numpy as np

from service.inference.calibration import Calibration, Interval
from service.recognition.operating_point import SMALLEST_RATE, Rate, log_bounds


class MeasuredRates:
    """The false match rates at thresholds.

    Attributes:
        thresholds, log_rates: of the calibration's points, ascending thresholds and descending logarithms to base 10.
    """

    def __init__(self, calibration: Calibration) -> None:
        self.thresholds = np.array([point.threshold for point in calibration.points])
        self.log_rates = np.log10([point.fmr for point in calibration.points])
        self._log_bounds = log_bounds(calibration)

    def fmr_at(self, threshold: float) -> float | None:
        """Returns the false match rate of one comparison at a threshold; None outside the measured range."""
        if not self.thresholds[0] <= threshold <= self.thresholds[-1]:
            return None
        return float(10 ** np.interp(threshold, self.thresholds, self.log_rates))

    def similarity_at(self, score: float) -> float:
        """Returns 1 minus the false match rate of one comparison at a score, 0 to 1, and ascending with the score.

        Outside the measured range it is linear: 0 at a score of -1, and 1 at a score of 1.
        """
        first, last = 1 - 10 ** self.log_rates[[0, -1]]
        low, high = self.thresholds[[0, -1]]
        if low <= score <= high:
            return float(1 - 10 ** np.interp(score, self.thresholds, self.log_rates))
        return float(np.interp(score, [-1, low, high, 1], [0, first, last, 1]))

    def rate_at(self, threshold: float, comparisons: int = 1) -> Rate | None:
        """Returns the false match rate of this many comparisons at a threshold; None outside the measured range."""
        value = self.fmr_at(threshold)
        return None if value is None else Rate(value, self.interval_at(threshold)).of_many(comparisons)

    def interval_at(self, threshold: float) -> Interval | None:
        """Returns the 95 % confidence interval of the rate of one comparison; None without measured intervals."""
        if self._log_bounds is None:
            return None
        low, high = (10 ** np.interp(threshold, self.thresholds, bound) for bound in self._log_bounds)
        return float(low) if low > 2 * SMALLEST_RATE else 0.0, float(high)
