"""Verification by how far faces are turned, and whether alignment by canonical landmarks helps it."""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from service.inference.embedder import FaceEmbedder
from service.vision.alignment import TEMPLATE_112, similarity_transform, trust
from service.vision.image import Pixels
from trainer.embedder.canvases import CROP, CanvasSet
from trainer.embedder.scores import all_pairs
from trainer.shape.autoencoder import ShapeAutoencoder, canonical
from trainer.shape.pose import pose_of

Floats = npt.NDArray[np.float32]
EDGES = (0.0, 15.0, 30.0, 45.0, 90.0)
FMR = 1e-3
EYES_PX = float(TEMPLATE_112[1, 0] - TEMPLATE_112[0, 0])
BATCH = 32


@dataclass(frozen=True)
class Bin:
    """Pairs whose more turned face has a yaw from `low` to `high` degrees; rates at one threshold for all pairs."""

    low: float
    high: float
    genuine: int
    impostor: int
    tar: float
    fmr: float


def by_yaw(embeddings: Floats, names: list[str], yaw: Floats) -> list[Bin]:
    """True accept and false match rates of each bin at the threshold that has FMR 1e-3 over all pairs."""
    overall = all_pairs(embeddings, names)
    threshold = overall.threshold_at(overall.told(FMR))
    _, labels = np.unique(np.asarray(names), return_inverse=True)
    counts = np.zeros((len(EDGES) - 1, 2, 2), np.int64)  # bin, same person, accepted
    turned = np.abs(yaw)
    for row in range(len(labels) - 1):
        accepted = (embeddings[row + 1 :] @ embeddings[row]) >= threshold
        same = labels[row + 1 :] == labels[row]
        place = np.digitize(np.maximum(turned[row], turned[row + 1 :]), EDGES[1:-1])
        np.add.at(counts, (place, same.astype(int), accepted.astype(int)), 1)
    return [
        Bin(
            low,
            high,
            genuine=int(pairs[1].sum()),
            impostor=int(pairs[0].sum()),
            tar=float(pairs[1, 1] / max(pairs[1].sum(), 1)),
            fmr=float(pairs[0, 1] / max(pairs[0].sum(), 1)),
        )
        for low, high, pairs in zip(EDGES, EDGES[1:], counts, strict=False)
    ]


def yaws(landmarks: Floats) -> Floats:
    """(N,) degrees of (N, 5, 3) landmarks."""
    return np.array([pose_of(face).yaw for face in landmarks], np.float32)


def embed_realigned(
    embedder: FaceEmbedder, canvases: CanvasSet, rows: list[int], landmarks: Floats, model: ShapeAutoencoder | None
) -> Floats:
    """(N, D) embeddings of crops aligned anew by (N, 5, 3) landmarks of their canvases.

    Args:
        model: with one, so that what turning did to the landmarks doesn't move the face: the template's points are
            moved as the face's own differ from its canonical ones, before the nearest similarity is sought. None: as
            the service aligns.
    """
    fronts = [None] * len(rows) if model is None else list(canonical(model, landmarks))
    crops = [
        _realigned(np.asarray(canvases.pictures[row]), face, front)
        for row, face, front in zip(rows, landmarks, fronts, strict=True)
    ]
    return np.concatenate([embedder.embed(crops[start : start + BATCH]) for start in range(0, len(crops), BATCH)])


def _realigned(canvas: Pixels, face: Floats, front: Floats | None) -> Pixels:
    turned = 0.0 if front is None else (pose_of(face).points - front) * EYES_PX
    transform = similarity_transform(face[:, :2], (TEMPLATE_112 + turned).astype(np.float32), trust(face[:, 2]))
    crop = cv2.warpAffine(canvas, transform, (CROP, CROP), borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(crop, np.uint8)
