"""Measures a gallery: scores of mated and non-mated pairs, duplicate candidates and outliers."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.intp]
BLOCK_ROWS = 1024
"""Number of templates that are compared with all others in one matrix product."""
MISPLACED_MARGIN = 0.1
"""Minimum excess of the cosine to another identity over the cosine to the own one that marks a template as misplaced.

Templates of a person who is enrolled twice are close to both identities and stay below this margin."""
BINS = np.linspace(-1, 1, 2001)


@dataclass(frozen=True)
class Gallery:
    """Templates of a collection.

    Attributes:
        embeddings: (N, D), normalised, sorted by identity.
        owners: (N,), the number of each template's identity, from 0 to P - 1.
    """

    embeddings: Floats
    owners: Ints

    @property
    def people(self) -> int:
        return int(self.owners.max()) + 1 if len(self.owners) else 0


@dataclass(frozen=True)
class DuplicateCandidate:
    """Two identities with similar templates.

    Attributes:
        first, second: the numbers of the identities.
        score: the larger of `best_template` and `centroids`.
        best_template: the highest cosine between a template of one and a template of the other.
        centroids: the cosine between the centroids.
    """

    first: int
    second: int
    score: float
    best_template: float
    centroids: float


@dataclass(frozen=True)
class Outlier:
    """A template that is unlike the other templates of its identity.

    Attributes:
        template: its row in the gallery.
        own: cosine to the centroid of the identity's other templates.
        nearest: the other identity with the nearest centroid.
        nearest_score: cosine to that centroid; -1 if the gallery has one identity.
    """

    template: int
    own: float
    nearest: int
    nearest_score: float


@dataclass(frozen=True)
class GalleryScores:
    """The result of `measure`.

    Attributes:
        mated: scores of all pairs of templates of one identity.
        non_mated: histogram over `BINS` of the scores of all pairs of templates of two identities.
        best_other: (N,), the best score of each template with a template of another identity.
        duplicate_candidates: pairs of identities, the most similar first.
        outliers: templates, those with the largest excess of the cosine to another identity first.
    """

    mated: Floats
    non_mated: npt.NDArray[np.int64]
    best_other: Floats
    duplicate_candidates: list[DuplicateCandidate]
    outliers: list[Outlier]

    def fpir_at(self, threshold: float) -> float:
        """Returns the share of templates that would match another identity if their own one were not enrolled."""
        return float(np.mean(self.best_other >= threshold)) if len(self.best_other) else 0.0


def measure(
    gallery: Gallery, duplicate_threshold: float, outlier_threshold: float, minimum_pairs: int
) -> GalleryScores:
    """Compares every template with every other, one block at a time.

    Takes N * N * D multiplications and memory for `BLOCK_ROWS` * N scores.

    Args:
        gallery: the templates.
        duplicate_threshold: lowest score of two identities that are listed as duplicate candidates.
        outlier_threshold: templates with a lower cosine to their identity are outliers.
        minimum_pairs: number of the most similar identities that are listed even below the threshold.
    """
    best = _BestPairs(duplicate_threshold, minimum_pairs)
    mated, non_mated = [], np.zeros(len(BINS) - 1, np.int64)
    best_other = np.full(len(gallery.owners), -1, np.float32)
    for first, scores in _blocks(gallery.embeddings, gallery.embeddings):
        rows = np.arange(first, first + len(scores))
        same = gallery.owners[rows][:, None] == gallery.owners[None]
        later = np.arange(len(gallery.owners))[None] > rows[:, None]
        mated.append(scores[same & later])
        non_mated += np.histogram(scores[~same & later].clip(-1, 1), BINS)[0]
        others = np.where(same, np.float32(-1), scores)
        best_other[rows] = others.max(axis=1)
        best.add(others, rows, gallery.owners)
    return GalleryScores(
        np.concatenate(mated) if mated else np.zeros(0, np.float32),
        non_mated,
        best_other,
        _duplicate_candidates(gallery, best, duplicate_threshold, minimum_pairs),
        _outliers(gallery, outlier_threshold),
    )


def centroids(gallery: Gallery) -> Floats:
    """Returns the (P, D) normalised mean of each identity's templates."""
    return _normalised(_sums(gallery))


class _BestPairs:
    """Collects the best score between the templates of two identities, for pairs that are similar enough to list."""

    def __init__(self, threshold: float, minimum_pairs: int) -> None:
        self.scores: dict[tuple[int, int], float] = {}
        self._threshold, self._minimum_pairs = threshold, minimum_pairs

    def add(self, scores: Floats, rows: Ints, owners: Ints) -> None:
        """Adds the scores of some rows with all templates; entries of the same identity are -1."""
        flat = scores.ravel()
        # Each pair occurs twice and identities have several templates, so more scores than `minimum_pairs` are needed.
        needed = 4 * self._minimum_pairs
        lowest = np.partition(flat, -needed)[-needed] if flat.size > needed else np.float32(-1)
        for row, column in zip(*np.nonzero(scores >= max(min(self._threshold, float(lowest)), -0.99)), strict=True):
            pair = tuple(sorted((int(owners[rows[row]]), int(owners[column]))))
            score = float(scores[row, column])
            self.scores[pair] = max(self.scores.get(pair, -1.0), score)  # type: ignore[index,arg-type]


def _duplicate_candidates(
    gallery: Gallery, best: _BestPairs, threshold: float, minimum_pairs: int
) -> list[DuplicateCandidate]:
    means = centroids(gallery)
    by_centroid = _BestPairs(threshold, minimum_pairs)
    for first, scores in _blocks(means, means):
        rows = np.arange(first, first + len(scores))
        scores[np.arange(len(rows)), rows] = -1
        by_centroid.add(scores, rows, np.arange(gallery.people))
    candidates = []
    for first, second in set(best.scores) | set(by_centroid.scores):
        between = float(means[first] @ means[second])
        templates = best.scores.get((first, second))
        if templates is None:
            templates = float((_templates_of(gallery, first) @ _templates_of(gallery, second).T).max())
        candidates.append(DuplicateCandidate(first, second, max(templates, between), templates, between))
    candidates.sort(key=lambda pair: -pair.score)
    above = sum(pair.score >= threshold for pair in candidates)
    return candidates[: max(above, minimum_pairs)]


def _outliers(gallery: Gallery, threshold: float) -> list[Outlier]:
    """Returns templates below the threshold to their identity, or clearly closer to another identity."""
    counts = np.bincount(gallery.owners, minlength=gallery.people)
    others = _normalised(_sums(gallery)[gallery.owners] - gallery.embeddings)
    own = (others * gallery.embeddings).sum(axis=1)
    nearest, score = _nearest_other_centroids(gallery)
    suspect = (counts[gallery.owners] > 1) & ((own < threshold) | (own + MISPLACED_MARGIN < score))
    rows = np.flatnonzero(suspect)
    rows = rows[np.argsort((own - score)[rows], kind="stable")]
    return [Outlier(int(row), float(own[row]), int(nearest[row]), float(score[row])) for row in rows]


def _nearest_other_centroids(gallery: Gallery) -> tuple[Ints, Floats]:
    """Returns, for each template, the other identity with the nearest centroid, and the cosine to it."""
    means = centroids(gallery)
    nearest = np.zeros(len(gallery.owners), np.intp)
    best = np.full(len(gallery.owners), -1, np.float32)
    if gallery.people < 2:
        return nearest, best
    for first, scores in _blocks(gallery.embeddings, means):
        rows = np.arange(first, first + len(scores))
        scores[np.arange(len(rows)), gallery.owners[rows]] = -1
        nearest[rows] = scores.argmax(axis=1)
        best[rows] = scores.max(axis=1)
    return nearest, best


def _sums(gallery: Gallery) -> Floats:
    sums = np.zeros((gallery.people, gallery.embeddings.shape[1]), np.float32)
    np.add.at(sums, gallery.owners, gallery.embeddings)
    return sums


def _blocks(left: Floats, right: Floats) -> Iterator[tuple[int, Floats]]:
    """Yields the first row of each block of `left` and the block's scores with all rows of `right`."""
    for first in range(0, len(left), BLOCK_ROWS):
        yield first, left[first : first + BLOCK_ROWS] @ right.T


def _templates_of(gallery: Gallery, identity: int) -> Floats:
    return gallery.embeddings[gallery.owners == identity]


def _normalised(vectors: Floats) -> Floats:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12), np.float32)
