"""Groups embeddings by average linkage."""

from dataclasses import dataclass

import faiss
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


MAX_ROUNDS = 1_000
"""Faces need some tens of rounds; 100,000 embeddings of an attacker could need as many rounds as there are pairs."""


class TooManyRoundsError(Exception):
    """The embeddings form chains in which hardly any two clusters are nearest to each other."""


@dataclass
class _Clusters:
    """The clusters at one moment.

    The mean cosine between the members of two clusters is the inner product of the clusters' means. So a cluster is
    its mean, which is not normalised, and its size.

    Attributes:
        means: (n, dim).
        sizes: (n,).
        labels: (N,), the cluster of each embedding.
        nearest: (n,), the other cluster with the highest mean cosine.
        scores: (n,), that mean cosine.
    """

    means: Floats
    sizes: Ints
    labels: Ints
    nearest: Ints
    scores: Floats

    def find_nearest(self, of: Ints) -> None:
        """Finds the nearest other cluster of these clusters."""
        scores, found = faiss.knn(self.means[of], self.means, 2, metric=faiss.METRIC_INNER_PRODUCT)
        other = (found[:, 0] == of).astype(np.intp)  # a cluster usually is its own nearest one
        rows = np.arange(len(of))
        self.nearest[of], self.scores[of] = found[rows, other], scores[rows, other]

    def mergeable(self, threshold: float) -> tuple[Ints, Ints]:
        """Returns the pairs of clusters that are nearest to each other, with a mean cosine of at least `threshold`."""
        own = np.arange(len(self.means))
        first = np.flatnonzero((self.nearest[self.nearest] == own) & (own < self.nearest) & (self.scores >= threshold))
        if not len(first) and len(own) and self.scores.max() >= threshold:
            first = np.array([self.scores.argmax()])  # several clusters with the same score are nearest in a circle
        return first, self.nearest[first]

    def merge(self, first: Ints, second: Ints, threshold: float) -> "_Clusters":
        """Merges pairs of clusters, and finds the nearest cluster of those whose nearest one has changed."""
        own = np.arange(len(self.means))
        weights = self.sizes[first] + self.sizes[second]
        sums = self.means[first] * self.sizes[first, None] + self.means[second] * self.sizes[second, None]
        self.means[first] = sums / weights[:, None]
        self.sizes[first] = weights
        target = own.copy()
        target[second] = first
        changed = np.isin(own, first)
        # The mean cosine to a merged cluster is between those to its parts. So it never reaches the threshold for a
        # cluster whose nearest one is below it, and the nearest one of the others stays the same.
        stale = changed | ((changed | np.isin(own, second))[self.nearest] & (self.scores >= threshold))
        kept = np.setdiff1d(own, second)
        position = np.empty_like(own)
        position[kept] = np.arange(len(kept))
        merged = _Clusters(
            self.means[kept],
            self.sizes[kept],
            position[target[self.labels]],
            position[target[self.nearest[kept]]],
            self.scores[kept],
        )
        if len(kept) > 1:
            merged.find_nearest(np.flatnonzero(stale[kept]))
        return merged


def cluster(embeddings: Floats, threshold: float) -> Ints:
    """Returns the (N,) number of each embedding's cluster, from 0.

    Average linkage: the two clusters with the highest mean cosine between their members are merged, as long as it is
    at least `threshold`. Merging all pairs that are nearest to each other at once has the same result and needs few
    rounds (Sumengen et al., "Scaling Hierarchical Agglomerative Clustering to Billion-sized Datasets", 2021).

    Takes about 2 * N * N * dim operations on one thread, and memory for four copies of the embeddings.

    Args:
        embeddings: (N, dim), normalised.

    Raises:
        TooManyRoundsError
    """
    faiss.omp_set_num_threads(1)  # of this thread: requests need the other processors
    count = len(embeddings)
    if count < 2:
        return np.zeros(count, np.int64)
    everyone = np.arange(count)
    nearest, scores = np.zeros(count, np.int64), np.zeros(count, np.float32)
    clusters = _Clusters(embeddings.copy(), np.ones(count, np.int64), everyone, nearest, scores)
    clusters.find_nearest(everyone)
    for _ in range(MAX_ROUNDS):
        pairs = clusters.mergeable(threshold)
        if not len(pairs[0]):
            return clusters.labels
        clusters = clusters.merge(*pairs, threshold)
    raise TooManyRoundsError


@dataclass(frozen=True)
class Members:
    """The members of all groups, in the order of the groups, and in each group the most similar to its mean first.

    Attributes:
        rows: (n,), the embedding of each member.
        numbers: (n,), the number of its group, from 1. The largest group is the first.
        positions: (n,), its position in the group, from 1.
        similarities: (n,), its cosine to the normalised mean of the group.
    """

    rows: Ints
    numbers: Ints
    positions: Ints
    similarities: Floats

    @property
    def groups(self) -> int:
        return int(self.numbers.max(initial=0))


def members_of(embeddings: Floats, labels: Ints) -> Members:
    """Returns the members of the clusters with at least two embeddings.

    Args:
        embeddings, labels: (N, dim) and (N,), as for `cluster`.
    """
    sizes = np.bincount(labels)
    by_size = np.argsort(-sizes, kind="stable")[: int((sizes > 1).sum())]
    number_of = np.zeros(len(sizes), np.int64)
    number_of[by_size] = np.arange(1, len(by_size) + 1)
    numbers = number_of[labels]
    means = np.zeros((len(sizes), embeddings.shape[1]), np.float32)
    np.add.at(means, labels, embeddings)
    means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
    similarities = (embeddings * means[labels]).sum(axis=1)
    rows = np.lexsort((-similarities, numbers))
    rows = rows[numbers[rows] > 0]
    starts = np.searchsorted(numbers[rows], numbers[rows])
    return Members(rows, numbers[rows], np.arange(len(rows)) - starts + 1, similarities[rows])
