"""Computes normalised embeddings of aligned crops."""

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from service.errors import StartupError
from service.inference.bundle import open_cohort, read_embedder
from service.inference.graph import RuntimeOptions, open_graph
from service.inference.manifest import EmbedderManifest
from service.vision.filtering import apply_all
from service.vision.heatmaps import render
from service.vision.image import Pixels

Floats = npt.NDArray[np.float32]
Points = npt.NDArray[np.float32]
MAX_BATCH = 32


class FaceEmbedder:
    """Maps aligned crops, (size, size, 3) RGB, to L2-normalised float32 embeddings.

    Raises:
        StartupError: the bundle is invalid, or the graph's output has another shape than the manifest's.
    """

    def __init__(self, bundle: Path, options: RuntimeOptions) -> None:
        self.manifest: EmbedderManifest = read_embedder(bundle)
        manifest = self.manifest
        self._graph = open_graph(bundle / manifest.graph, manifest.input_size, options, manifest.channels)
        if self._graph.output_shape != (manifest.embedding_dim,):
            raise StartupError(
                f"{bundle}: the graph's output has the shape {self._graph.output_shape} per crop; the manifest "
                f"requires ({manifest.embedding_dim},)"
            )
        self._cohort = open_cohort(bundle, manifest)

    def uncorrected(self) -> "FaceEmbedder | None":
        """Returns the embedder of the same graph without the cohort; None if the bundle names no such model."""
        if self.manifest.uncorrected is None:
            return None
        result = copy.copy(self)
        result.manifest, result._cohort = self.manifest.uncorrected, None
        return result

    def embed(self, crops: Sequence[Pixels], points: Sequence[Points | None] | None = None) -> Floats:
        """Returns (n, dim) embeddings of n crops; arguments as in `embed_with_lengths`."""
        return self.embed_with_lengths(crops, points)[0]

    def embed_with_lengths(
        self, crops: Sequence[Pixels], points: Sequence[Points | None] | None = None
    ) -> tuple[Floats, Floats]:
        """Returns (n, dim) embeddings of n crops and their (n,) lengths before normalisation.

        The length indicates how well a face can be recognised (Meng et al., "MagFace", CVPR 2021).

        Args:
            points: for models with landmark channels: (6, 3) x, y and confidence for each crop, in pixels of the crop;
                None for a crop without landmarks.
        """
        if not crops:
            return np.zeros((0, self.manifest.embedding_dim), np.float32), np.zeros(0, np.float32)
        landmarks = [None] * len(crops) if points is None else points
        batches = (slice(start, start + MAX_BATCH) for start in range(0, len(crops), MAX_BATCH))
        parts = [self._embed(crops[batch], landmarks[batch]) for batch in batches]
        embeddings, lengths = (np.concatenate(part) for part in zip(*parts, strict=True))
        return (embeddings if self._cohort is None else self._cohort.correct(embeddings)), lengths

    def quality(self, length: float) -> float | None:
        """Returns the share of reference faces with a shorter embedding, 0 to 1; None without reference lengths."""
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
        """Returns the mirror images, with the channels of left and right landmarks exchanged."""
        order = [0, 1, 2]
        if self.manifest.landmark_channels is not None:
            order += [3 + channel for channel in self.manifest.landmark_channels.mirrored]
        return planes[:, order, :, ::-1]


def _normalise(vectors: Floats) -> tuple[Floats, Floats]:
    """Returns (n, dim) vectors of length one and the (n,) original lengths."""
    lengths = np.asarray(np.linalg.norm(vectors, axis=1), np.float32)
    return np.asarray(vectors / np.maximum(lengths, 1e-12)[:, None], np.float32), lengths
