"""Compares two embedders on the same held-out pictures."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from service.inference.calibration import Interval
from trainer.embedder.bootstrap import count_pairs, mean_interval
from trainer.embedder.calibration import MIN_PAIRS_ABOVE, Sample
from trainer.embedder.scores import PairScores, all_pairs, top_k_rate

FMRS = (1e-1, 1e-2, 1e-3, 1e-4)
DECISIVE_FMR = 1e-3
"""The rate that decides whether training helped, or the nearest higher one that is measurable."""


@dataclass(frozen=True)
class RateComparison:
    """True accept rates of two embedders at one false match rate.

    Attributes:
        interval: 95 % interval of `after - before`, by bootstrap over people.
    """

    fmr: float
    before: float
    after: float
    interval: Interval


@dataclass(frozen=True)
class Comparison:
    """Two embedders on the same pictures; `before` and `after` training.

    Attributes:
        rates: from the highest false match rate to the lowest that is measurable.
        rank_1: how often the most similar other picture shows the same person, before and after.
    """

    before: PairScores
    after: PairScores
    rates: Sequence[RateComparison]
    rank_1: tuple[float, float]
    people: int
    pictures: int

    @property
    def decisive(self) -> RateComparison:
        return min(self.rates, key=lambda rate: (rate.fmr < DECISIVE_FMR, rate.fmr))

    @property
    def helped(self) -> bool:
        """True if the true accept rate at the decisive rate is higher, and chance does not explain it."""
        return self.decisive.interval[0] > 0

    @property
    def harmed(self) -> bool:
        """True if the true accept rate at the decisive rate is lower, and chance does not explain it."""
        return self.decisive.interval[1] < 0


def compare(before: Sample, after: Sample) -> Comparison:
    """Compares two embedders; the rows of both samples are the same pictures."""
    scores = all_pairs(before.embeddings, before.names), all_pairs(after.embeddings, after.names)
    rates = [
        _compare_at(fmr, before, after, *scores) for fmr in FMRS if fmr * len(scores[0].impostor) >= MIN_PAIRS_ABOVE
    ]
    ranks = top_k_rate(before.embeddings, before.names, 1), top_k_rate(after.embeddings, after.names, 1)
    return Comparison(*scores, rates, ranks, len(set(before.names)), len(before.names))


def _compare_at(
    fmr: float, before: Sample, after: Sample, before_scores: PairScores, after_scores: PairScores
) -> RateComparison:
    thresholds = before_scores.threshold_at(fmr), after_scores.threshold_at(fmr)
    counts = [
        count_pairs(sample.embeddings, sample.names, np.array([threshold]))
        for sample, threshold in zip((before, after), thresholds, strict=True)
    ]
    gained = counts[0].genuine[0] - counts[1].genuine[0]  # missed before, matched after
    pictures = counts[0].pictures
    return RateComparison(
        fmr=fmr,
        before=before_scores.true_accept_rate(thresholds[0]),
        after=after_scores.true_accept_rate(thresholds[1]),
        interval=mean_interval(gained, pictures * (pictures - 1) / 2),
    )
