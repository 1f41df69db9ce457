"""Aligned crops to normalised embeddings."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from service.errors import StartupError
from service.inference.bundle import EmbedderManifest, read_embedder
from service.inference.graph import RuntimeOptions, open_graph
from service.vision.filtering import apply_all
from service.vision.heatmaps import render
from service.vision.image import Pixels

Floats = npt.NDArray[np.float32]
Points = npt.NDArray[np.float32]
LARGEST_BATCH = 32


class FaceEmbedder:
    """Embeds crops of (size, size, 3) RGB into L2-normalised float32 vectors."""

    def __init__(self, bundle: Path, options: RuntimeOptions) -> None:
        self.manifest: EmbedderManifest = read_embedder(bundle)
        manifest = self.manifest
        self._graph = open_graph(bundle / manifest.graph, manifest.input_size, options, manifest.channels)
        if self._graph.output_shape != (manifest.embedding_dim,):
            raise StartupError(
                f"{bundle}: an output of {self._graph.output_shape} where {manifest.embedding_dim} is due"
            )

    def embed(self, crops: Sequence[Pixels], points: Sequence[Points | None] | None = None) -> Floats:
        """(n, dim) for n crops."""
        return self.embed_with_lengths(crops, points)[0]

    def embed_with_lengths(
        self, crops: Sequence[Pixels], points: Sequence[Points | None] | None = None
    ) -> tuple[Floats, Floats]:
        """(n, dim) embeddings, and the (n,) lengths that they had before they were normalised.

        The length tells how well a face can be recognised (Meng et al., "MagFace", CVPR 2021).

        Args:
            points: (6, 3) landmarks of each crop in its pixels, for models that want them; None: not known.
        """
        if not crops:
            return np.zeros((0, self.manifest.embedding_dim), np.float32), np.zeros(0, np.float32)
        known = [None] * len(crops) if points is None else points
        portions = (slice(start, start + LARGEST_BATCH) for start in range(0, len(crops), LARGEST_BATCH))
        parts = [self._embed(crops[portion], known[portion]) for portion in portions]
        return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])

    def quality(self, length: float) -> float | None:
        """The share of the reference faces whose embeddings were shorter, or None without a reference."""
        lengths = self.manifest.reference_lengths
        return float(np.interp(length, lengths, np.linspace(0, 1, len(lengths)))) if lengths else None

    def _embed(self, crops: Sequence[Pixels], points: Sequence[Points | None]) -> tuple[Floats, Floats]:
        manifest, scaling = self.manifest, self.manifest.scaling
        batch = np.stack(apply_all(crops, manifest.filters))
        if scaling.colour_order == "BGR":
            batch = batch[..., ::-1]
        planes = (batch.transpose(0, 3, 1, 2).astype(np.float32) - np.float32(scaling.mean)) / np.float32(scaling.std)
        if manifest.landmark_channels is not None:
            heatmaps = render(points, manifest.input_size, manifest.landmark_channels)
            planes = np.concatenate([planes, heatmaps], axis=1)
        if not manifest.mirror_average:
            return _normalise(self._graph.run(planes))
        both, lengths = _normalise(self._graph.run(np.concatenate([planes, self._mirrored(planes)])))
        count = len(crops)
        return _normalise(both[:count] + both[count:])[0], (lengths[:count] + lengths[count:]) / np.float32(2)

    def _mirrored(self, planes: Floats) -> Floats:
        """Of the mirror pictures, in which left landmarks are right ones."""
        order = [0, 1, 2]
        if self.manifest.landmark_channels is not None:
            order += [3 + place for place in self.manifest.landmark_channels.mirrored]
        return planes[:, order, :, ::-1]


def _normalise(vectors: Floats) -> tuple[Floats, Floats]:
    lengths = np.asarray(np.linalg.norm(vectors, axis=1), np.float32)
    return np.asarray(vectors / np.maximum(lengths, 1e-12)[:, None], np.float32), lengths
