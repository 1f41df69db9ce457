"""Classifies faces into a closed set of people with a linear layer on the embeddings of an embedder."""

from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationError

from service.errors import StartupError
from service.inference.bundle import equivalent_fingerprints
from service.inference.bundle_files import contained, file_sha256, read_listed
from service.inference.manifest import EmbedderManifest
from service.strict_model import Strict

Floats = npt.NDArray[np.float32]
NAME = r"^[a-z0-9][a-z0-9._-]{2,63}$"
MANIFEST, WEIGHTS = "classifier.json", "classifier.npz"


class ClassifierManifest(Strict):
    """Manifest of a classifier.

    Attributes:
        embedder: model id of the embedder on whose normalised embeddings the classifier was fitted.
        embedder_fingerprint: `embedding_fingerprint` of that embedder's bundle.
        labels: the people, in the order of the rows of the weights.
        weights_sha256: SHA-256 of `classifier.npz`, which holds `weights` (people, dim) and `bias` (people,), float32.
    """

    kind: Literal["classifier"]
    format_version: Literal[1]
    classifier_id: str = Field(pattern=NAME)
    embedder: str
    embedder_fingerprint: str
    labels: list[str] = Field(min_length=2)
    weights_sha256: str
    evaluation: dict[str, float] = Field(default_factory=dict)

    def fits(self, embedder: EmbedderManifest) -> bool:
        """Returns True if the classifier was fitted on embeddings of this embedder or of an equivalent earlier file."""
        return self.embedder == embedder.model_id and self.embedder_fingerprint in equivalent_fingerprints(embedder)


class Classifier:
    """A softmax classifier. It assigns every face to a known person, so use `/search` to recognise unknown people.

    Raises:
        StartupError: as `read_classifier`, or the weights have another number of people than the manifest.
    """

    def __init__(self, folder: Path) -> None:
        self.manifest = read_classifier(folder)
        with np.load(folder / WEIGHTS, allow_pickle=False) as stored:
            self._weights: Floats = stored["weights"].astype(np.float32)
            self._bias: Floats = stored["bias"].astype(np.float32)
        if self._weights.shape[0] != len(self.manifest.labels) or self._bias.shape != self._weights.shape[:1]:
            raise StartupError(
                f"{folder}: {WEIGHTS} has {self._weights.shape[0]} rows of weights and {self._bias.size} biases; it "
                f"does not fit the {len(self.manifest.labels)} labels of {MANIFEST}"
            )

    @property
    def dim(self) -> int:
        return int(self._weights.shape[1])

    def probabilities(self, embeddings: Floats) -> Floats:
        """Returns (N, people) probabilities for (N, dim) normalised embeddings; the sum of each row is one."""
        logits = embeddings @ self._weights.T + self._bias
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)

    def top(self, embedding: Floats, count: int) -> list[tuple[str, float]]:
        """Returns the `count` most probable people of one (dim,) embedding with their probabilities, descending."""
        row = self.probabilities(embedding[None])[0]
        return [(self.manifest.labels[index], float(row[index])) for index in np.argsort(-row)[:count]]


def read_classifier(folder: Path) -> ClassifierManifest:
    """Reads the manifest of a classifier and checks the weights' file.

    Raises:
        StartupError: a file is missing or is a link that leaves the folder, the manifest is invalid, or the SHA-256 of
            the weights differs.
    """
    if missing := next((name for name in (MANIFEST, WEIGHTS) if not (folder / name).is_file()), None):
        raise StartupError(
            f"{folder} is not a classifier: it has no {missing}. Run `identity-trainer classifier fit` to create a "
            "classifier."
        )
    try:
        manifest = ClassifierManifest.model_validate_json(contained(folder, MANIFEST).read_bytes())
    except ValidationError as error:
        raise StartupError(f"{folder / MANIFEST}: {error}") from None
    read_listed(folder, {WEIGHTS: manifest.weights_sha256}, WEIGHTS)
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
    """Writes weights and manifest to a folder, which is created if necessary.

    Args:
        embedder: model id of the embedder.
        fingerprint: `embedding_fingerprint` of the embedder's bundle.
        labels: the people, in the order of the rows of the weights.
        weights: (people, dim).
        bias: (people,).
    """
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / WEIGHTS, weights=np.asarray(weights, np.float32), bias=np.asarray(bias, np.float32))
    manifest = ClassifierManifest(
        kind="classifier",
        format_version=1,
        classifier_id=classifier_id,
        embedder=embedder,
        embedder_fingerprint=fingerprint,
        labels=labels,
        weights_sha256=file_sha256(folder / WEIGHTS),
        evaluation=evaluation,
    )
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n")
    return manifest
