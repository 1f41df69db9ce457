"""Aligned crops to normalised embeddings."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from service.errors import StartupError
from service.inference.bundle import EmbedderManifest, read_embedder
from service.inference.graph import RuntimeOptions, open_graph
from service.vision.image import Pixels

Floats = npt.NDArray[np.float32]
LARGEST_BATCH = 32


class FaceEmbedder:
    """Embeds crops of (size, size, 3) RGB into L2-normalised float32 vectors."""

    def __init__(self, bundle: Path, options: RuntimeOptions) -> None:
        self.manifest: EmbedderManifest = read_embedder(bundle)
        self._graph = open_graph(bundle / self.manifest.graph, self.manifest.input_size, options)
        if self._graph.output_shape != (self.manifest.embedding_dim,):
            raise StartupError(
                f"{bundle}: an output of {self._graph.output_shape} where {self.manifest.embedding_dim} is due"
            )

    def embed(self, crops: Sequence[Pixels]) -> Floats:
        """(n, dim) for n crops."""
        if not crops:
            return np.zeros((0, self.manifest.embedding_dim), np.float32)
        parts = [self._embed(crops[start : start + LARGEST_BATCH]) for start in range(0, len(crops), LARGEST_BATCH)]
        return np.concatenate(parts)

    def _embed(self, crops: Sequence[Pixels]) -> Floats:
        scaling = self.manifest.scaling
        batch = np.stack(crops)
        if scaling.colour_order == "BGR":
            batch = batch[..., ::-1]
        planes = (batch.transpose(0, 3, 1, 2).astype(np.float32) - np.float32(scaling.mean)) / np.float32(scaling.std)
        if not self.manifest.mirror_average:
            return _normalise(self._graph.run(planes))
        both = _normalise(self._graph.run(np.concatenate([planes, planes[..., ::-1]])))
        return _normalise(both[: len(crops)] + both[len(crops) :])


def _normalise(vectors: Floats) -> Floats:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(1e-12))
