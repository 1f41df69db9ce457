"""Canvases through an embedder bundle, as the service would embed their crops."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from rich.progress import track

from service.inference.embedder import FaceEmbedder
from service.inference.engine import FaceFinder
from service.vision.heatmaps import MIRRORED
from trainer.embedder.canvas_landmarks import OfDetector
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


def embed_pictures(
    embedder: FaceEmbedder, pictures: npt.NDArray[np.uint8], detector: FaceFinder
) -> tuple[Floats, Floats]:
    """The same of a few (n, 160, 160, 3) canvases that belong to no set.

    Args:
        detector: finds the landmarks, for a model that sees them.
    """
    size = embedder.manifest.input_size
    points = None
    if embedder.manifest.landmark_channels is not None:
        found = [OfDetector(detector)(picture) for picture in pictures]
        points = [None if six is None else _in_crop(six, size, mirrored=False) for six in found]
    return embedder.embed_with_lengths(middle_crops(pictures, size), points)


def _in_crop(points: Floats, size: int, mirrored: bool) -> Floats | None:
    if not points[:, 2].any():
        return None
    moved = points.copy()
    moved[:, :2] = (points[:, :2] - np.float32(MIDDLE.start)) * np.float32(size / CROP)
    if mirrored:
        moved[:, 0] = size - 1 - moved[:, 0]
        moved = moved[list(MIRRORED)]
    return moved
