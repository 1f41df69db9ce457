"""Creates synthetic galleries of embeddings for benchmarks of the search."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
CHUNK = 20_000
DECAY = 2.6
"""The variance of the embeddings' principal components falls by exp(-DECAY) from the first to the last. The covariance
has a participation ratio of 66 % of the dimensions: 85 of 128. That of the shipped model on LFW-dev is 84."""
MATE_COSINE, MATE_DEVIATION = 0.667, 0.133
"""Mean and standard deviation of the cosine between two photos of a person: the shipped model on LFW-dev."""


@dataclass(frozen=True)
class Gallery:
    """A synthetic gallery; all vectors are normalised.

    Attributes:
        people: (N, dim) one embedding per enrolled person.
        mates: (M,) rows of the people to whom the probes belong.
        probes: (M, dim) probes of enrolled people.
        strangers: (M, dim) probes of people who are not enrolled.
    """

    people: Floats
    mates: npt.NDArray[np.int64]
    probes: Floats
    strangers: Floats

    def first(self, count: int) -> "Gallery":
        """Returns the gallery with the first `count` probes only."""
        return Gallery(self.people, self.mates[:count], self.probes[:count], self.strangers)


def make_gallery(people: int, dim: int, searches: int, seed: int) -> Gallery:
    """Creates a reproducible gallery with `searches` probes of enrolled people and as many of other people."""
    random = np.random.default_rng(seed)
    deviations = np.exp(-DECAY / 2 * np.arange(dim) / dim).astype(np.float32)

    def faces(count: int) -> Floats:
        embeddings = np.empty((count, dim), np.float32)
        for first in range(0, count, CHUNK):
            part = random.standard_normal((min(CHUNK, count - first), dim), dtype=np.float32)
            embeddings[first : first + len(part)] = _normalised(part * deviations)
        return embeddings

    enrolled = faces(people)
    mates = random.choice(people, searches, replace=False)
    cosines = np.clip(random.normal(MATE_COSINE, MATE_DEVIATION, (searches, 1)), 0, 1).astype(np.float32)
    own, other = enrolled[mates], faces(searches)
    across = _normalised(other - (other * own).sum(axis=1, keepdims=True) * own)
    probes = _normalised(cosines * own + np.sqrt(1 - cosines**2) * across)
    return Gallery(enrolled, mates, probes, faces(searches))


def _normalised(vectors: npt.NDArray[np.floating]) -> Floats:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
