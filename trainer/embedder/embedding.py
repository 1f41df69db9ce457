"""Embeds aligned crops with an embedder bundle, as the service would."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from service.inference.embedder import FaceEmbedder
from service.inference.engine import FaceFinder
from service.vision.heatmaps import MIRRORED
from trainer.embedder.aligned_crops import CENTRE, CENTRE_SIZE, AlignedCrops, centre_crops
from trainer.embedder.crop_landmarks import served_landmarks
from trainer.finders import DetectorLandmarks
from trainer.progress import track

Floats = npt.NDArray[np.float32]
BATCH = 32


def embed_crops(
    embedder: FaceEmbedder, crops: AlignedCrops, rows: Sequence[int], mirrored: bool = False, batch: int = BATCH
) -> tuple[Floats, Floats]:
    """Returns (N, D) normalised embeddings of the chosen rows and (N,) lengths before normalisation.

    A model with landmark channels uses the landmarks of the service's detector.

    Args:
        mirrored: Embed the mirror pictures.
        batch: Number of pictures in one call of the runtime.
    """
    size = embedder.manifest.input_size
    landmarks = None if embedder.manifest.landmark_channels is None else served_landmarks(crops)
    parts = []
    for start in track(range(0, len(rows), batch), description="embedding aligned crops"):
        chosen = np.asarray(rows[start : start + batch])
        pixels = centre_crops(crops.pictures[chosen], size)
        points = None if landmarks is None else [_in_centre(landmarks[row], size, mirrored) for row in chosen]
        if mirrored:
            pixels = [np.ascontiguousarray(crop[:, ::-1]) for crop in pixels]
        parts.append(embedder.embed_with_lengths(pixels, points))
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def embed_pictures(
    embedder: FaceEmbedder, pictures: npt.NDArray[np.uint8], detector: FaceFinder
) -> tuple[Floats, Floats]:
    """Returns (n, D) normalised embeddings and (n,) lengths of (n, 160, 160, 3) aligned crops outside a set.

    Args:
        detector: Locates the landmarks for a model with landmark channels.
    """
    size = embedder.manifest.input_size
    points = None
    if embedder.manifest.landmark_channels is not None:
        find = DetectorLandmarks(detector)
        points = [None if (six := find(picture)) is None else _in_centre(six, size, False) for picture in pictures]
    return embedder.embed_with_lengths(centre_crops(pictures, size), points)


def _in_centre(points: Floats, size: int, mirrored: bool) -> Floats | None:
    """Converts (n, 3) points of an aligned crop to pixels of its centre crop; None: no point is known."""
    if not points[:, 2].any():
        return None
    moved = points.copy()
    moved[:, :2] = (points[:, :2] - np.float32(CENTRE.start)) * np.float32(size / CENTRE_SIZE)
    if mirrored:
        moved[:, 0] = size - 1 - moved[:, 0]
        moved = moved[list(MIRRORED)]
    return moved
