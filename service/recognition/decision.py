"""From an asked false match rate to a threshold, and back."""

from dataclasses import dataclass

import numpy as np

from service.errors import FmrNotCalibrated
from service.inference.bundle import Calibration, Precision


@dataclass(frozen=True, slots=True)
class Decision:
    """The threshold in force and the false match rate that it stands for, None where the model can't tell."""

    threshold: float
    fmr: float | None

    def accepts(self, score: float) -> bool:
        return score >= self.threshold


class DecisionPolicy:
    """Resolves thresholds through a model's calibration.

    Between two measured points the rate is interpolated in its logarithm, in which the tail of impostor scores is
    nearly straight. Beyond the last measured point nothing is known, and nothing is made up.
    """

    def __init__(self, calibration: Calibration | None, precision: Precision, default_fmr: float) -> None:
        self._default_fmr = default_fmr
        if calibration is None:
            self._reason = "the model's bundle has no calibration; ask for a `threshold` instead"
            self._calibration = None
        elif calibration.precision != precision:
            self._reason = (
                f"the model was calibrated in {calibration.precision} and runs in {precision}; "
                "ask for a `threshold` instead"
            )
            self._calibration = None
        else:
            self._calibration = calibration
            self._thresholds = np.array([point.threshold for point in calibration.points])
            self._log_rates = np.log10([point.fmr for point in calibration.points])

    def decide(self, fmr: float | None, threshold: float | None) -> Decision:
        """The decision for a request that asks for one of them, or for none.

        Raises:
            FmrNotCalibrated: the model can't tell this rate, and says which it can.
        """
        if threshold is not None:
            return Decision(threshold, self.fmr_at(threshold))
        asked = self._default_fmr if fmr is None else fmr
        return Decision(self.threshold_for(asked), asked)

    def default_problem(self) -> str | None:
        """Why the default rate has no threshold, or None."""
        try:
            self.threshold_for(self._default_fmr)
        except FmrNotCalibrated as error:
            return error.detail
        return None

    def threshold_for(self, fmr: float) -> float:
        """Raises FmrNotCalibrated."""
        if self._calibration is None:
            raise FmrNotCalibrated(self._reason, pointer="/fmr")
        lowest, highest = self._calibration.points[-1].fmr, self._calibration.points[0].fmr
        if not lowest <= fmr <= highest:
            raise FmrNotCalibrated(
                f"the model is calibrated for false match rates from {lowest:g} to {highest:g}; {fmr:g} is outside",
                pointer="/fmr",
                lowest=lowest,
                highest=highest,
            )
        return float(np.interp(np.log10(fmr), self._log_rates[::-1], self._thresholds[::-1]))

    def fmr_at(self, threshold: float) -> float | None:
        """The rate that a threshold stands for, or None outside of what was measured."""
        if self._calibration is None or not self._thresholds[0] <= threshold <= self._thresholds[-1]:
            return None
        return float(10 ** np.interp(threshold, self._thresholds, self._log_rates))
