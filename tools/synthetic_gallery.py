"""Creates synthetic galleries of embeddings for benchmarks of the search."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
CHUNK = 20_000
CLUSTER = 100
"""People per cluster of similar people."""
CLUSTER_COSINE = 0.45
"""Cosine of a person to the centre of the cluster. It determines the cosines between people of a cluster."""
MATE_COSINE = 0.5
"""Cosine of a probe to its person, about that of two photos of one person."""


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
    clusters = max(1, people // CLUSTER)
    centres = _normalised(random.standard_normal((clusters, dim), dtype=np.float32))

    def faces(count: int) -> Floats:
        embeddings = np.empty((count, dim), np.float32)
        for first in range(0, count, CHUNK):
            own = _normalised(random.standard_normal((min(CHUNK, count - first), dim), dtype=np.float32))
            shared = centres[random.integers(clusters, size=len(own))]
            mixed = CLUSTER_COSINE * shared + np.sqrt(1 - CLUSTER_COSINE**2) * own
            embeddings[first : first + len(own)] = _normalised(mixed)
        return embeddings

    enrolled = faces(people)
    mates = random.choice(people, searches, replace=False)
    noise = _normalised(random.standard_normal((searches, dim), dtype=np.float32))
    probes = _normalised(MATE_COSINE * enrolled[mates] + np.sqrt(1 - MATE_COSINE**2) * noise)
    return Gallery(enrolled, mates, probes, faces(searches))


def _normalised(vectors: npt.NDArray[np.floating]) -> Floats:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
