"""A closed set of people: which of them a face is, by a linear layer on an embedder's embeddings."""

import hashlib
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationError

from service.errors import StartupError
from service.inference.bundle import file_sha256
from service.strict_model import Strict

Floats = npt.NDArray[np.float32]
NAME = r"^[a-z0-9][a-z0-9._-]{2,63}$"
MANIFEST, WEIGHTS = "classifier.json", "classifier.npz"


class ClassifierManifest(Strict):
    """What a classifier knows and what it stands on.

    Attributes:
        embedder: model id of the embedder whose normalised embeddings it was fitted on.
        embedder_fingerprint: of that bundle; another embedder's embeddings mean nothing to it.
        labels: the people, in the order of the weights' rows.
        weights_sha256: of `classifier.npz`: `weights` (people, dim) and `bias` (people,), float32.
    """

    kind: Literal["classifier"]
    format_version: Literal[1]
    classifier_id: str = Field(pattern=NAME)
    embedder: str
    embedder_fingerprint: str
    labels: list[str] = Field(min_length=2)
    weights_sha256: str
    evaluation: dict[str, float] = Field(default_factory=dict)


class Classifier:
    """Tells people of a closed set apart. It always names one of them: strangers are what `/search` is for."""

    def __init__(self, folder: Path) -> None:
        self.manifest = read_classifier(folder)
        with np.load(folder / WEIGHTS, allow_pickle=False) as stored:
            self._weights: Floats = stored["weights"].astype(np.float32)
            self._bias: Floats = stored["bias"].astype(np.float32)
        if self._weights.shape[0] != len(self.manifest.labels) or self._bias.shape != self._weights.shape[:1]:
            raise StartupError(f"{folder}: {WEIGHTS} does not fit the {len(self.manifest.labels)} labels")

    @property
    def dim(self) -> int:
        return int(self._weights.shape[1])

    def probabilities(self, embeddings: Floats) -> Floats:
        """(N, people) for (N, dim) normalised embeddings; each row adds up to one."""
        logits = embeddings @ self._weights.T + self._bias
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)

    def top(self, embedding: Floats, count: int) -> list[tuple[str, float]]:
        """The likeliest people of one (dim,) embedding, with their probabilities."""
        row = self.probabilities(embedding[None])[0]
        return [(self.manifest.labels[place], float(row[place])) for place in np.argsort(-row)[:count]]


def read_classifier(folder: Path) -> ClassifierManifest:
    """Raises StartupError: no classifier, one of another release, or one whose weights are not the described ones."""
    try:
        manifest = ClassifierManifest.model_validate_json((folder / MANIFEST).read_bytes())
        differs = file_sha256(folder / WEIGHTS) != manifest.weights_sha256
    except FileNotFoundError as error:
        raise StartupError(
            f"{folder} is not a classifier: it has no {Path(error.filename).name}; `python -m trainer "
            "classifier fit` makes one"
        ) from None
    except ValidationError as error:
        raise StartupError(f"{folder / MANIFEST}: {error}") from None
    if differs:
        raise StartupError(f"{folder / WEIGHTS} is not the file that the manifest describes (its SHA-256 differs)")
    return manifest


def write_classifier(
    folder: Path,
    classifier_id: str,
    embedder: str,
    fingerprint: str,
    labels: list[str],
    weights: Floats,
    bias: Floats,
    evaluation: dict[str, float],
) -> ClassifierManifest:
    """Write weights and manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / WEIGHTS, weights=np.asarray(weights, np.float32), bias=np.asarray(bias, np.float32))
    manifest = ClassifierManifest(
        kind="classifier",
        format_version=1,
        classifier_id=classifier_id,
        embedder=embedder,
        embedder_fingerprint=fingerprint,
        labels=labels,
        weights_sha256=hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest(),
        evaluation=evaluation,
    )
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n")
    return manifest
