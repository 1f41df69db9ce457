"""Confidence intervals by bootstrap over people, since pictures of one person are not independent.

Bolle, Ratha and Pankanti, "Error analysis of pattern recognition systems: the subsets bootstrap", CVIU 2004.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.inference.calibration import Interval

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.integer]
REPLICATES = 1000
CONFIDENCE = 0.95
ROWS = 2048
"""Rows of the score matrix that are computed at once, which limits memory."""


@dataclass(frozen=True)
class PairCounts:
    """Counts of pairs by person, for T thresholds and P people.

    Attributes:
        impostor: (T, P, P) symmetric counts of impostor pairs at or above each threshold.
        genuine: (T, P) counts of genuine pairs below each threshold.
        pictures: (P,) pictures of each person.
    """

    impostor: npt.NDArray[np.float32]
    genuine: npt.NDArray[np.float64]
    pictures: Ints


def count_pairs(embeddings: Floats, identities: list[str], thresholds: Floats) -> PairCounts:
    """Counts all pairs of (N, D) normalised embeddings by person and threshold."""
    names, labels = np.unique(np.asarray(identities), return_inverse=True)
    order = np.argsort(labels, kind="stable")
    vectors, pictures = embeddings[order], np.bincount(labels)
    starts = np.concatenate([[0], np.cumsum(pictures)[:-1]])
    people = len(names)
    impostor = np.zeros((len(thresholds), people, people), np.float32)
    genuine = np.zeros((len(thresholds), people))
    for first, last in _blocks(pictures):
        rows = slice(starts[first], starts[last - 1] + pictures[last - 1])
        scores = vectors[rows] @ vectors.T
        for index, threshold in enumerate(thresholds):
            columns = np.add.reduceat((scores >= threshold).astype(np.float32), starts, axis=1)
            impostor[index, first:last] = np.add.reduceat(columns, starts[first:last] - starts[first], axis=0)
    own = np.arange(people)
    for index in range(len(thresholds)):
        # The block of a person counts each genuine pair twice, and each picture once with itself.
        above = (impostor[index, own, own] - pictures) / 2
        genuine[index] = pictures * (pictures - 1) / 2 - above
        impostor[index, own, own] = 0
    return PairCounts(impostor, genuine, pictures)


def rate_intervals(counts: PairCounts, seed: int = 0) -> tuple[list[Interval], list[Interval]]:
    """Returns the 95 % intervals of FMR and of FNMR at each threshold; no FNMR if nobody has several pictures."""
    people = len(counts.pictures)
    draws = np.random.default_rng(seed).multinomial(people, np.full(people, 1 / people), REPLICATES).astype(np.float32)
    weighted = draws.astype(np.float64) * counts.pictures
    impostor_pairs = weighted.sum(axis=1) ** 2 - (weighted**2).sum(axis=1)
    genuine_pairs = draws @ (counts.pictures * (counts.pictures - 1) / 2)
    # Replicates without impostor pairs (one person) or without genuine pairs have no rate. If nobody has several
    # pictures, there is no FNMR.
    has_genuine = bool((counts.pictures > 1).any())
    valid = (impostor_pairs > 0) & ((genuine_pairs > 0) | (not has_genuine))
    fmr = [interval(((draws @ table * draws).sum(axis=1)[valid]) / impostor_pairs[valid]) for table in counts.impostor]
    if not has_genuine:
        return fmr, []
    fnmr = [interval((draws @ misses)[valid] / genuine_pairs[valid]) for misses in counts.genuine]
    return fmr, fnmr


def fnmr_intervals(embeddings: Floats, identities: list[str], thresholds: dict[float, float]) -> dict[float, Interval]:
    """Returns the 95 % interval of the FNMR by false match rate.

    Args:
        embeddings: (N, D) normalised.
        thresholds: threshold of each false match rate.
    """
    if not thresholds:
        return {}
    _, fnmr = rate_intervals(count_pairs(embeddings, identities, np.array(list(thresholds.values()))))
    return dict(zip(thresholds, fnmr, strict=True))


def interval(replicates: Floats) -> Interval:
    """Returns the central 95 % of the replicates."""
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(replicates, [tail, 1 - tail])
    return float(f"{low:.3g}"), float(f"{high:.3g}")


def mean_interval(events: Floats, trials: Floats, seed: int = 0) -> Interval:
    """Returns the 95 % interval of sum(events) / sum(trials); both are (P,) sums by person."""
    people = len(trials)
    draws = np.random.default_rng(seed).multinomial(people, np.full(people, 1 / people), REPLICATES)
    return interval(draws @ events / np.maximum(draws @ trials, 1))


def _blocks(pictures: Ints) -> list[tuple[int, int]]:
    """Returns ranges of people that together have about `ROWS` pictures each."""
    blocks, first, rows = [], 0, 0
    for person, count in enumerate(pictures):
        rows += int(count)
        if rows >= ROWS:
            blocks.append((first, person + 1))
            first, rows = person + 1, 0
    if first < len(pictures):
        blocks.append((first, len(pictures)))
    return blocks
