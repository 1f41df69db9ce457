"""Chooses and records the calibration of a run."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from service.inference.bundle import read_embedder
from service.inference.calibration import Calibration, Interval
from trainer.embedder.bootstrap import count_pairs, rate_intervals
from trainer.embedder.calibration import MIN_PAIRS_ABOVE, Sample, calibrate
from trainer.embedder.calibration_record import copy_bundle, record
from trainer.embedder.scores import all_pairs
from trainer.run.decisions import covers

LARGEST_CHECKED_FMR = 0.1
LARGEST_RATIO = 1.5


@dataclass(frozen=True)
class CheckedRate:
    """A false match rate of the shipped calibration, measured at its threshold on other people.

    It holds if at most 1.5 times the requested rate was measured, and chance explains the difference.
    """

    requested: float
    measured: float
    interval: Interval

    @property
    def holds(self) -> bool:
        return self.measured <= LARGEST_RATIO * self.requested and self.interval[0] <= self.requested


@dataclass(frozen=True)
class ChosenCalibration:
    """The calibration of a bundle.

    Attributes:
        own: measured on the run's people; False: the shipped calibration is kept.
        checked: the shipped calibration on the run's people; empty for a trained model.
    """

    calibration: Calibration
    own: bool
    checked: list[CheckedRate]


def calibrate_trained(bundle: Path, sample: Sample, people: str) -> ChosenCalibration:
    """Measures a trained model on held-out people and writes the table into its bundle. Raises ConfigError."""
    table = calibrate(sample, _nobody(sample), "f32", people)
    record(bundle, bundle, table, sample)
    return ChosenCalibration(table, True, [])


def calibrate_shipped(shipped: Path, output: Path, sample: Sample, people: str, templates: int) -> ChosenCalibration:
    """Writes a copy of the shipped bundle with the calibration that serves these people best.

    The table that is measured on the people is recorded if it covers the service's default rate for identities with
    `templates` templates. A shorter table would leave requests undecided. The shipped calibration is then kept, if its
    rates hold on the people; if they do not hold, the measured table is recorded.

    Raises:
        ConfigError: The people are too few for a calibration.
    """
    table = calibrate(sample, _nobody(sample), "f32", people)
    present = read_embedder(shipped).calibration
    checked = [] if present is None else _check(present, sample)
    holds = bool(checked) and all(rate.holds for rate in checked)
    if present is None or covers(table, templates) or not holds:
        record(shipped, output, table, sample)
        return ChosenCalibration(table, True, checked)
    copy_bundle(shipped, output)
    return ChosenCalibration(present, False, checked)


def _check(calibration: Calibration, sample: Sample) -> list[CheckedRate]:
    """Measures the false match rates at the calibrated thresholds, as far down as the sample allows."""
    pairs = all_pairs(sample.embeddings, sample.names)
    points = [
        point
        for point in calibration.points
        if point.fmr <= LARGEST_CHECKED_FMR and point.fmr * len(pairs.impostor) >= MIN_PAIRS_ABOVE
    ]
    if not points:
        return []
    thresholds = np.array([point.threshold for point in points])
    intervals, _ = rate_intervals(count_pairs(sample.embeddings, sample.names, thresholds))
    return [
        CheckedRate(point.fmr, pairs.false_match_rate(point.threshold), interval)
        for point, interval in zip(points, intervals, strict=True)
    ]


def _nobody(sample: Sample) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return np.zeros((0, sample.embeddings.shape[1]), np.float32)
