"""Searches for label errors by embeddings: pictures under the wrong identity, and two identities of one person."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class SuspectedError:
    """A picture that is more similar to another identity than to the other pictures of its own identity.

    Attributes:
        row: index of the picture.
        identity: its label.
        nearest: the other identity.
        own_cosine: cosine to the centroid of the other pictures of its label, -1 to 1.
        nearest_cosine: cosine to the centroid of the other identity, -1 to 1.
    """

    row: int
    identity: str
    nearest: str
    own_cosine: float
    nearest_cosine: float


@dataclass(frozen=True)
class DuplicateIdentity:
    """Two identities whose centroids have a cosine that is usual for two pictures of one person."""

    first: str
    second: str
    cosine: float


def suspected_errors(embeddings: Floats, identities: Sequence[str]) -> list[SuspectedError]:
    """Returns the pictures whose label is probably wrong, the most probable first.

    Args:
        embeddings: (N, D) normalised embeddings.
        identities: N labels. Pictures of identities with one picture are not checked.
    """
    names, labels, sums = _sums(embeddings, identities)
    counts, centroids = np.bincount(labels), _normalised(sums)
    errors = []
    for row, label in enumerate(labels):
        if counts[label] < 2 or len(names) < 2:
            continue
        own = float(_normalised((sums[label] - embeddings[row])[None])[0] @ embeddings[row])
        cosines = centroids @ embeddings[row]
        cosines[label] = -np.inf
        nearest = int(cosines.argmax())
        if cosines[nearest] > own:
            errors.append(SuspectedError(row, str(names[label]), str(names[nearest]), own, float(cosines[nearest])))
    return sorted(errors, key=lambda error: error.own_cosine - error.nearest_cosine)


def duplicate_identities(
    embeddings: Floats, identities: Sequence[str], minimum_cosine: float
) -> list[DuplicateIdentity]:
    """Returns the pairs of identities whose centroids have at least this cosine, the most similar first."""
    names, _, sums = _sums(embeddings, identities)
    centroids = _normalised(sums)
    cosines = np.triu(centroids @ centroids.T, 1)
    pairs = np.argwhere(cosines >= minimum_cosine)
    duplicates = [DuplicateIdentity(str(names[a]), str(names[b]), float(cosines[a, b])) for a, b in pairs]
    return sorted(duplicates, key=lambda pair: -pair.cosine)


def _sums(embeddings: Floats, identities: Sequence[str]) -> tuple[npt.NDArray[np.str_], npt.NDArray[np.intp], Floats]:
    """Returns the distinct identities, the index of each row's identity, and the sum of embeddings per identity."""
    names, labels = np.unique(np.asarray(identities), return_inverse=True)
    sums = np.zeros((len(names), embeddings.shape[1]), np.float32)
    np.add.at(sums, labels, embeddings)
    return names, labels, sums


def _normalised(vectors: Floats) -> Floats:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12), np.float32)
