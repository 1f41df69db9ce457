"""Computes error rates of comparisons from embeddings. Terms as in ISO/IEC 19795-1."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
MIN_PAIRS_ABOVE = 10


@dataclass(frozen=True)
class PairScores:
    """Cosines (-1 to 1) of pairs of pictures: of the same person (`genuine`) and of two people (`impostor`)."""

    genuine: Floats
    impostor: Floats

    def threshold_at(self, fmr: float) -> float:
        """Returns the lowest threshold with a false match rate of at most `fmr`; a score >= threshold is a match.

        Raises:
            ValueError: Fewer than ten impostor pairs would lie above the threshold.
        """
        allowed = int(np.floor(fmr * len(self.impostor)))
        if allowed < MIN_PAIRS_ABOVE:
            raise ValueError(f"{len(self.impostor)} impostor pairs are too few for a false match rate of {fmr:g}")
        boundary = np.partition(self.impostor, -allowed - 1)[-allowed - 1]
        return float(np.nextafter(np.float32(boundary), np.float32(2)))

    def measurable_fmr(self, fmr: float) -> float:
        """Returns `fmr`, or the lowest rate that `threshold_at` accepts if that is higher."""
        lowest = MIN_PAIRS_ABOVE + 1
        return max(fmr, lowest / max(len(self.impostor), lowest))

    @property
    def area_under_roc(self) -> float:
        """The probability that a genuine pair has a higher score than an impostor pair; NaN without pairs."""
        if not len(self.genuine) or not len(self.impostor):
            return float("nan")
        impostor = np.sort(self.impostor)
        below = np.searchsorted(impostor, self.genuine, "left")
        equal = np.searchsorted(impostor, self.genuine, "right") - below
        return float((below + equal / 2).mean() / len(impostor))

    def true_accept_rate(self, threshold: float) -> float:
        return float(np.mean(self.genuine >= threshold))

    def false_match_rate(self, threshold: float) -> float:
        return float(np.mean(self.impostor >= threshold))


def all_pairs(embeddings: Floats, identities: list[str]) -> PairScores:
    """Compares every pair of rows of (N, D) normalised embeddings."""
    _, labels = np.unique(np.asarray(identities), return_inverse=True)
    genuine, impostor = [], []
    for row in range(len(labels) - 1):
        scores = embeddings[row + 1 :] @ embeddings[row]
        same = labels[row + 1 :] == labels[row]
        genuine.append(scores[same])
        impostor.append(scores[~same].astype(np.float32))
    return PairScores(np.concatenate(genuine), np.concatenate(impostor))


def top_k_rate(embeddings: Floats, names: Sequence[object], top_k: int) -> float:
    """Returns how often (0 to 1) the `top_k` most similar pictures contain one of the same person.

    Only pictures of people with several pictures are searched.

    Args:
        embeddings: (N, D) normalised.
    """
    _, labels = np.unique(np.asarray(names), return_inverse=True)
    has_mate = np.bincount(labels)[labels] > 1
    hits = []
    for row in np.flatnonzero(has_mate):
        cosines = embeddings @ embeddings[row]
        cosines[row] = -np.inf
        nearest = np.argpartition(-cosines, min(top_k, len(cosines) - 1))[:top_k]
        hits.append(bool((labels[nearest] == labels[row]).any()))
    return float(np.mean(hits)) if hits else 0.0


def balanced_accuracy(pairs: PairScores) -> float:
    """Returns the 10-fold accuracy on as many impostor pairs as genuine pairs, chosen at random; 0 without pairs."""
    count = min(len(pairs.genuine), len(pairs.impostor))
    if count < 10:
        return 0.0
    random = np.random.default_rng(0)
    chosen = [random.permutation(scores)[:count] for scores in (pairs.genuine, pairs.impostor)]
    return ten_fold_accuracy(np.concatenate(chosen), np.repeat([True, False], count))[0]


def ten_fold_accuracy(scores: Floats, same: npt.NDArray[np.bool_], folds: int = 10) -> tuple[float, float]:
    """Returns mean and standard deviation of the accuracy over the folds.

    Each fold is decided with the best threshold of the other folds, as in the protocol of Labeled Faces in the Wild.
    """
    order = np.random.default_rng(0).permutation(len(scores))
    parts = np.array_split(order, folds)
    accuracies = []
    for index, held_out in enumerate(parts):
        others = np.concatenate([part for other, part in enumerate(parts) if other != index])
        threshold = _best_threshold(scores[others], same[others])
        accuracies.append(np.mean((scores[held_out] >= threshold) == same[held_out]))
    return float(np.mean(accuracies)), float(np.std(accuracies))


def _best_threshold(scores: Floats, same: npt.NDArray[np.bool_]) -> float:
    order = np.argsort(scores)
    rejected_genuine = np.concatenate([[0], np.cumsum(same[order])])
    impostors_below = np.concatenate([[0], np.cumsum(~same[order])])
    accepted_impostor = impostors_below[-1] - impostors_below
    best = int(np.argmin(rejected_genuine + accepted_impostor))
    return float(np.inf) if best == len(scores) else float(scores[order][best])
