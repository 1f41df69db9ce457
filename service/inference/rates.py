"""The error rate of many comparisons from that of one, and back, as if they were independent of each other."""

import numpy as np


def rate_of_many(rate: float, comparisons: int) -> float:
    """The chance that one of so many independent comparisons is a false match."""
    return float(-np.expm1(comparisons * np.log1p(-rate)))


def rate_of_one(rate: float, comparisons: int) -> float:
    """The rate of each of so many comparisons that together have a rate; none counts as one."""
    return float(-np.expm1(np.log1p(-rate) / max(comparisons, 1)))
