"""Pictures that may bear the wrong name, found by an embedder."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Suspect:
    """A picture that is nearer to another person than to the other pictures of its own."""

    row: int
    identity: str
    nearer_to: str
    own: float
    other: float


@dataclass(frozen=True)
class Twins:
    """Two names whose pictures are as near as those of one person."""

    one: str
    other: str
    cosine: float


def suspects(embeddings: Floats, identities: Sequence[str]) -> list[Suspect]:
    """The most doubtful first. A picture is compared with the centroid of its person's *other* pictures."""
    names, labels, sums = _sums(embeddings, identities)
    counts, centroids = np.bincount(labels), _normalised(sums)
    found = []
    for row, label in enumerate(labels):
        if counts[label] < 2 or len(names) < 2:
            continue
        own = float(_normalised((sums[label] - embeddings[row])[None])[0] @ embeddings[row])
        cosines = centroids @ embeddings[row]
        cosines[label] = -np.inf
        nearest = int(cosines.argmax())
        if cosines[nearest] > own:
            found.append(Suspect(row, str(names[label]), str(names[nearest]), own, float(cosines[nearest])))
    return sorted(found, key=lambda suspect: suspect.own - suspect.other)


def twins(embeddings: Floats, identities: Sequence[str], threshold: float) -> list[Twins]:
    """Names whose centroids are at least `threshold` apart in cosine, the nearest first."""
    names, _, sums = _sums(embeddings, identities)
    centroids = _normalised(sums)
    cosines = np.triu(centroids @ centroids.T, 1)
    pairs = np.argwhere(cosines >= threshold)
    found = [Twins(str(names[one]), str(names[other]), float(cosines[one, other])) for one, other in pairs]
    return sorted(found, key=lambda pair: -pair.cosine)


def _sums(embeddings: Floats, identities: Sequence[str]) -> tuple[npt.NDArray[np.str_], npt.NDArray[np.intp], Floats]:
    """The people's names, every row's person, and the sum of each person's embeddings."""
    names, labels = np.unique(np.asarray(identities), return_inverse=True)
    sums = np.zeros((len(names), embeddings.shape[1]), np.float32)
    np.add.at(sums, labels, embeddings)
    return names, labels, sums


def _normalised(vectors: Floats) -> Floats:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12), np.float32)
