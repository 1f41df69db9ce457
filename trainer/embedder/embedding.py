"""Canvases through an embedder bundle, as the service would embed their crops."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from rich.progress import track

from service.inference.embedder import FaceEmbedder
from service.vision.heatmaps import MIRRORED
from trainer.embedder.canvases import CROP, MIDDLE, CanvasSet, middle_crops
from trainer.embedder.landmark_finders import served_landmarks

Floats = npt.NDArray[np.float32]
BATCH = 32


def embed_canvases(
    embedder: FaceEmbedder, canvases: CanvasSet, rows: Sequence[int], mirrored: bool = False
) -> tuple[Floats, Floats]:
    """(N, D) normalised embeddings of the middle crops, or of their mirror pictures, and their (N,) lengths before.

    For a model that sees landmarks they are found first, by the service's detector.
    """
    size = embedder.manifest.input_size
    landmarks = None if embedder.manifest.landmark_channels is None else served_landmarks(canvases)
    parts = []
    for start in track(range(0, len(rows), BATCH), description="embedding canvases"):
        chosen = np.asarray(rows[start : start + BATCH])
        crops = middle_crops(canvases.pictures[chosen], size)
        points = None if landmarks is None else [_in_crop(landmarks[row], size, mirrored) for row in chosen]
        if mirrored:
            crops = [np.ascontiguousarray(crop[:, ::-1]) for crop in crops]
        parts.append(embedder.embed_with_lengths(crops, points))
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def _in_crop(points: Floats, size: int, mirrored: bool) -> Floats | None:
    if not points[:, 2].any():
        return None
    moved = points.copy()
    moved[:, :2] = (points[:, :2] - np.float32(MIDDLE.start)) * np.float32(size / CROP)
    if mirrored:
        moved[:, 0] = size - 1 - moved[:, 0]
        moved = moved[list(MIRRORED)]
    return moved
