"""From embeddings to error rates. Terms as in ISO/IEC 19795-1."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]


@dataclass(frozen=True)
class PairScores:
    """Cosines of all pairs of pictures: of the same person (`genuine`) and of two people (`impostor`)."""

    genuine: Floats
    impostor: Floats

    def threshold_at(self, fmr: float) -> float:
        """The lowest threshold whose false match rate on these pairs is at most `fmr`; a match is score >= threshold.

        Raises:
            ValueError: fewer than ten impostor pairs would stand behind the answer.
        """
        allowed = int(np.floor(fmr * len(self.impostor)))
        if allowed < 10:
            raise ValueError(f"{len(self.impostor)} impostor pairs can't tell a false match rate of {fmr:g}")
        boundary = np.partition(self.impostor, -allowed - 1)[-allowed - 1]
        return float(np.nextafter(np.float32(boundary), np.float32(2)))

    def told(self, fmr: float) -> float:
        """The asked rate, or the rarest one that these pairs can tell, where they are few."""
        return max(fmr, 11 / max(len(self.impostor), 11))

    def true_accept_rate(self, threshold: float) -> float:
        return float(np.mean(self.genuine >= threshold))

    def false_match_rate(self, threshold: float) -> float:
        return float(np.mean(self.impostor >= threshold))


def all_pairs(embeddings: Floats, identities: list[str]) -> PairScores:
    """Score every pair of rows of (N, D) normalised embeddings."""
    _, labels = np.unique(np.asarray(identities), return_inverse=True)
    genuine, impostor = [], []
    for row in range(len(labels) - 1):
        scores = embeddings[row + 1 :] @ embeddings[row]
        same = labels[row + 1 :] == labels[row]
        genuine.append(scores[same])
        impostor.append(scores[~same].astype(np.float32))
    return PairScores(np.concatenate(genuine), np.concatenate(impostor))


def top_k_rate(embeddings: Floats, names: Sequence[object], top_k: int) -> float:
    """How often another picture of the same person is among the nearest `top_k`, of people with several.

    Args:
        embeddings: (N, D) normalised.
    """
    _, labels = np.unique(np.asarray(names), return_inverse=True)
    several = np.bincount(labels)[labels] > 1
    hits = []
    for row in np.flatnonzero(several):
        cosines = embeddings @ embeddings[row]
        cosines[row] = -np.inf
        nearest = np.argpartition(-cosines, min(top_k, len(cosines) - 1))[:top_k]
        hits.append(bool((labels[nearest] == labels[row]).any()))
    return float(np.mean(hits)) if hits else 0.0


def ten_fold_accuracy(scores: Floats, same: npt.NDArray[np.bool_], folds: int = 10) -> tuple[float, float]:
    """Mean and standard deviation of the accuracy over folds, each at the best threshold of the others (LFW)."""
    order = np.random.default_rng(0).permutation(len(scores))
    parts = np.array_split(order, folds)
    accuracies = []
    for index, held_out in enumerate(parts):
        chosen = np.concatenate([part for other, part in enumerate(parts) if other != index])
        threshold = _best_threshold(scores[chosen], same[chosen])
        accuracies.append(np.mean((scores[held_out] >= threshold) == same[held_out]))
    return float(np.mean(accuracies)), float(np.std(accuracies))


def _best_threshold(scores: Floats, same: npt.NDArray[np.bool_]) -> float:
    order = np.argsort(scores)
    rejected_genuine = np.concatenate([[0], np.cumsum(same[order])])
    accepted_impostor = np.concatenate([[0], np.cumsum(~same[order])])[-1] - np.concatenate(
        [[0], np.cumsum(~same[order])]
    )
    best = int(np.argmin(rejected_genuine + accepted_impostor))
    return float(np.inf) if best == len(scores) else float(scores[order][best])
