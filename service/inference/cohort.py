"""Cohort normalisation of embeddings: makes false matches about equally frequent among all kinds of faces.

An embedder places children, or people whose like was rare in its training, closer together than others, so that one
threshold gives them more false matches. Score normalisation with a cohort corrects this by the similarity of both faces
to a fixed set of other faces (Auckenthaler, Carey and Lloyd-Thomas, "Score normalization for text-independent speaker
verification systems", Digital Signal Processing 10, 2000). Here the correction is a part of the embedding: the mean
of its neighbourhood is subtracted (localised centring: Hara et al., "Localized centering: reducing hubness in
large-sample data", AAAI 2015). The normalised score is then the cosine of two corrected embeddings, so that searches,
centroids, indexes and groups need no other arithmetic.

The neighbourhoods are the centres of clusters of faces of unknown people; no centre is a person's face.
"""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from service.errors import StartupError

Floats = npt.NDArray[np.float32]
MAX_BYTES = 1_000_000
"""Maximum size of a cohort's file."""


@dataclass(frozen=True, eq=False)
class Cohort:
    """The neighbourhoods of an embedding space.

    Attributes:
        centres: (k, dim) normalised centres of clusters.
        corrections: (k, dim), what is subtracted from an embedding at each centre.
        sharpness: inverse temperature of the softmax that weights the centres by their cosine to the embedding.
    """

    centres: Floats
    corrections: Floats
    sharpness: float

    def correct(self, embeddings: Floats) -> Floats:
        """Returns the corrected embeddings, (n, dim) and normalised, of (n, dim) normalised ones."""
        exponents = np.float32(self.sharpness) * (embeddings @ self.centres.T)
        weights = np.exp(exponents - exponents.max(axis=1, keepdims=True, initial=-np.inf))
        weights /= weights.sum(axis=1, keepdims=True)
        corrected = embeddings - weights @ self.corrections
        lengths = np.linalg.norm(corrected, axis=1, keepdims=True)
        return np.asarray(corrected / np.maximum(lengths, 1e-12), np.float32)


def write_cohort(file: Path, cohort: Cohort) -> None:
    """Writes centres and corrections as one (2, k, dim) array of float16, a `.npy` file."""
    np.save(file, np.stack([cohort.centres, cohort.corrections]).astype(np.float16))


def read_cohort(content: bytes, dim: int, sharpness: float, name: str) -> Cohort:
    """Reads the file that `write_cohort` has written.

    Args:
        dim: dimension of the embeddings.
        name: of the file, for errors.

    Raises:
        StartupError: the file is larger than `MAX_BYTES`, or is not a finite (2, k, dim) array.
    """
    if len(content) > MAX_BYTES:
        raise StartupError(f"{name} has {len(content)} bytes; a cohort has at most {MAX_BYTES}")
    try:
        array = np.load(io.BytesIO(content), allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        raise StartupError(f"{name} is not a cohort: {error}") from None
    if array.ndim != 3 or array.shape[0] != 2 or array.shape[1] < 1 or array.shape[2] != dim:
        raise StartupError(f"{name} is an array of the shape {array.shape}; a cohort has the shape (2, k, {dim})")
    array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise StartupError(f"{name} contains numbers that are not finite")
    return Cohort(array[0], array[1], sharpness)
