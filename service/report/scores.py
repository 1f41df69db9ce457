"""What a gallery's templates say about it: scores of mates and non-mates, lookalikes, templates in the wrong place."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.intp]
ROWS = 1024
"""Templates that are compared with all others at once."""
CLEARLY = 0.1
"""By how much a template fits somebody else better before it is called misplaced; who is enrolled twice fits both."""
BINS = np.linspace(-1, 1, 2001)


@dataclass(frozen=True)
class Gallery:
    """(N, D) normalised templates in order of their people, and whose each is, from 0 to P - 1."""

    embeddings: Floats
    owners: Ints

    @property
    def people(self) -> int:
        return int(self.owners.max()) + 1 if len(self.owners) else 0


@dataclass(frozen=True)
class Lookalikes:
    """Two people with templates near each other. `score` is the larger of `best_template` and `centroids`."""

    first: int
    second: int
    score: float
    best_template: float
    centroids: float


@dataclass(frozen=True)
class Misfit:
    """A template that is not like the others of its person.

    Attributes:
        template: its row.
        own: cosine to the centroid of its person's other templates.
        nearest: whose centroid else it is nearest to, and how near.
    """

    template: int
    own: float
    nearest: int
    nearest_score: float


@dataclass(frozen=True)
class GalleryScores:
    """Everything that is measured.

    Attributes:
        mates: scores of all pairs of templates of one person.
        non_mates: histogram over `BINS` of the scores of all pairs of two people.
        best_other: of each template, the best score with another person's: what a search by a stranger would see.
    """

    mates: Floats
    non_mates: npt.NDArray[np.int64]
    best_other: Floats
    lookalikes: list[Lookalikes]
    outlier: list[Misfit]

    def fpir_at(self, threshold: float) -> float:
        """Share of the templates that would find somebody else if their own person were not enrolled."""
        return float(np.mean(self.best_other >= threshold)) if len(self.best_other) else 0.0


def measure(gallery: Gallery, lookalike_from: float, misfit_below: float, at_least: int) -> GalleryScores:
    """Compare every template with every other, a block at a time: N * N * D multiplications, 1024 * N scores in memory.

    Args:
        lookalike_from: score from which two people count as alike.
        misfit_below: score below which a template does not fit its person.
        at_least: how many of the most alike people are named in any case.
    """
    best = _BestPairs(lookalike_from, at_least)
    mates, non_mates = [], np.zeros(len(BINS) - 1, np.int64)
    best_other = np.full(len(gallery.owners), -1, np.float32)
    for first, scores in _blocks(gallery.embeddings, gallery.embeddings):
        rows = np.arange(first, first + len(scores))
        same = gallery.owners[rows][:, None] == gallery.owners[None]
        later = np.arange(len(gallery.owners))[None] > rows[:, None]
        mates.append(scores[same & later])
        non_mates += np.histogram(scores[~same & later].clip(-1, 1), BINS)[0]
        others = np.where(same, np.float32(-1), scores)
        best_other[rows] = others.max(axis=1)
        best.add(others, rows, gallery.owners)
    return GalleryScores(
        np.concatenate(mates) if mates else np.zeros(0, np.float32),
        non_mates,
        best_other,
        _lookalikes(gallery, best, lookalike_from, at_least),
        _misfits(gallery, misfit_below),
    )


def centroids(gallery: Gallery) -> Floats:
    """(P, D) normalised means."""
    return _normalised(_sums(gallery))


class _BestPairs:
    """The best score of two people's templates, for pairs of people that are near enough to be named."""

    def __init__(self, threshold: float, at_least: int) -> None:
        self.scores: dict[tuple[int, int], float] = {}
        self._threshold, self._at_least = threshold, at_least

    def add(self, scores: Floats, rows: Ints, owners: Ints) -> None:
        """`scores`: of some rows with all templates, -1 for the own person's."""
        flat = scores.ravel()
        if flat.size > 4 * self._at_least:
            # Each pair stands twice and people have several templates, hence more than are asked for.
            common = np.partition(flat, -4 * self._at_least)[-4 * self._at_least]
        else:
            common = np.float32(-1)
        for row, column in zip(*np.nonzero(scores >= max(min(self._threshold, float(common)), -0.99)), strict=True):
            pair = tuple(sorted((int(owners[rows[row]]), int(owners[column]))))
            score = float(scores[row, column])
            self.scores[pair] = max(self.scores.get(pair, -1.0), score)  # type: ignore[index,arg-type]


def _lookalikes(gallery: Gallery, best: _BestPairs, threshold: float, at_least: int) -> list[Lookalikes]:
    means = centroids(gallery)
    alike = _BestPairs(threshold, at_least)
    for first, scores in _blocks(means, means):
        rows = np.arange(first, first + len(scores))
        scores[np.arange(len(rows)), rows] = -1
        alike.add(scores, rows, np.arange(gallery.people))
    found = []
    for first, second in set(best.scores) | set(alike.scores):
        between = float(means[first] @ means[second])
        templates = best.scores.get((first, second))
        if templates is None:
            templates = float((_of(gallery, first) @ _of(gallery, second).T).max())
        found.append(Lookalikes(first, second, max(templates, between), templates, between))
    found.sort(key=lambda pair: -pair.score)
    named = sum(pair.score >= threshold for pair in found)
    return found[: max(named, at_least)]


def _misfits(gallery: Gallery, threshold: float) -> list[Misfit]:
    """Templates that fit their person worse than the threshold, or fit somebody else clearly better."""
    counts = np.bincount(gallery.owners, minlength=gallery.people)
    others = _normalised(_sums(gallery)[gallery.owners] - gallery.embeddings)
    own = (others * gallery.embeddings).sum(axis=1)
    nearest, score = _nearest_centroids(gallery)
    suspect = (counts[gallery.owners] > 1) & ((own < threshold) | (own + CLEARLY < score))
    rows = np.flatnonzero(suspect)
    rows = rows[np.argsort((own - score)[rows], kind="stable")]
    return [Misfit(int(row), float(own[row]), int(nearest[row]), float(score[row])) for row in rows]


def _nearest_centroids(gallery: Gallery) -> tuple[Ints, Floats]:
    """Of each template: which other person's centroid is nearest, and how near."""
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
    for first in range(0, len(left), ROWS):
        yield first, left[first : first + ROWS] @ right.T


def _of(gallery: Gallery, person: int) -> Floats:
    return gallery.embeddings[gallery.owners == person]


def _normalised(vectors: Floats) -> Floats:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12), np.float32)
