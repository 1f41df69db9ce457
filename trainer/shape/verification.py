"""Measures verification by yaw, with and without alignment by canonical landmarks."""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from service.inference.embedder import FaceEmbedder
from service.vision.alignment import TEMPLATE_112, similarity_transform, trust
from service.vision.image import Pixels
from trainer.configuration import ConfigError
from trainer.embedder.aligned_crops import CENTRE_SIZE, AlignedCrops
from trainer.embedder.calibration import rows_of_part
from trainer.embedder.crop_landmarks import served_landmarks
from trainer.embedder.embedding import embed_crops
from trainer.embedder.scores import all_pairs
from trainer.embedder.split import Part
from trainer.embedder.split_config import SplitConfig
from trainer.progress import track
from trainer.shape.autoencoder import ShapeAutoencoder, canonical
from trainer.shape.pose import pose_of

Floats = npt.NDArray[np.float32]
EDGES = (0.0, 15.0, 30.0, 45.0, 90.0)
"""Edges of the yaw bins in degrees."""
FMR = 1e-3
EYES_PX = float(TEMPLATE_112[1, 0] - TEMPLATE_112[0, 0])
BATCH = 32


@dataclass(frozen=True)
class Bin:
    """Pairs whose larger absolute yaw is `low` to `high` degrees, with their rates at one threshold for all bins."""

    low: float
    high: float
    genuine: int
    impostor: int
    tar: float
    fmr: float


@dataclass(frozen=True)
class AlignmentRates:
    """Rates by yaw for each alignment.

    Attributes:
        unchanged: the crops as they are.
        realigned: crops aligned again by the shipped detector's landmarks, as the service does.
        canonical: crops aligned by the autoencoder's canonical landmarks.
    """

    unchanged: list[Bin]
    realigned: list[Bin]
    canonical: list[Bin]


def compare_alignments(
    embedder: FaceEmbedder, crops: AlignedCrops, split: SplitConfig, model: ShapeAutoencoder
) -> AlignmentRates:
    """Measures verification of the held-out people with each alignment.

    Raises:
        ConfigError: fewer than two crops of held-out people have landmarks.
    """
    landmarks = served_landmarks(crops)[:, :5]
    rows = [row for row in rows_of_part(crops, split, Part.CALIBRATION) if landmarks[row, :, 2].all()]
    if len(rows) < 2:
        raise ConfigError(
            "fewer than two crops of held-out people have landmarks; provide more people, or raise `split.calibration` "
            "in the configuration"
        )
    names = [crops.identities[row] for row in rows]
    points = np.asarray(landmarks[rows])
    yaw = yaws(points)
    return AlignmentRates(
        unchanged=by_yaw(embed_crops(embedder, crops, rows)[0], names, yaw),
        realigned=by_yaw(embed_realigned(embedder, crops, rows, points, None), names, yaw),
        canonical=by_yaw(embed_realigned(embedder, crops, rows, points, model), names, yaw),
    )


def by_yaw(embeddings: Floats, names: list[str], yaw: Floats) -> list[Bin]:
    """Returns true accept rate and false match rate of each yaw bin, at the threshold with FMR 1e-3 over all pairs.

    Args:
        embeddings: (N, D) normalised embeddings.
        names: N identities.
        yaw: (N,) degrees.
    """
    overall = all_pairs(embeddings, names)
    threshold = overall.threshold_at(overall.measurable_fmr(FMR))
    _, labels = np.unique(np.asarray(names), return_inverse=True)
    counts = np.zeros((len(EDGES) - 1, 2, 2), np.int64)  # bin, same person, accepted
    absolute = np.abs(yaw)
    for row in range(len(labels) - 1):
        accepted = (embeddings[row + 1 :] @ embeddings[row]) >= threshold
        same = labels[row + 1 :] == labels[row]
        bins = np.digitize(np.maximum(absolute[row], absolute[row + 1 :]), EDGES[1:-1])
        np.add.at(counts, (bins, same.astype(int), accepted.astype(int)), 1)
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
    """Returns the (N,) yaw in degrees of (N, 5, 3) landmarks."""
    return np.array([pose_of(face).yaw for face in landmarks], np.float32)


def embed_realigned(
    embedder: FaceEmbedder, crops: AlignedCrops, rows: list[int], landmarks: Floats, model: ShapeAutoencoder | None
) -> Floats:
    """Embeds crops that are aligned again by (N, 5, 3) landmarks of N rows.

    Args:
        model: with a model, the template's points are moved by the difference between the face's landmarks and its
            canonical ones before the similarity transform is fitted, so that turning the head does not displace the
            face in the crop. None: aligns as the service does.

    Returns:
        (N, D) normalised embeddings.
    """
    frontal = [None] * len(rows) if model is None else list(canonical(model, landmarks))
    realigned = [
        _realigned(np.asarray(crops.pictures[row]), face, front)
        for row, face, front in zip(rows, landmarks, frontal, strict=True)
    ]
    starts = track(range(0, len(realigned), BATCH), description="embedding realigned crops")
    return np.concatenate([embedder.embed(realigned[start : start + BATCH]) for start in starts])


def _realigned(crop: Pixels, face: Floats, front: Floats | None) -> Pixels:
    shift = 0.0 if front is None else (pose_of(face).points - front) * EYES_PX
    transform = similarity_transform(face[:, :2], (TEMPLATE_112 + shift).astype(np.float32), trust(face[:, 2]))
    aligned = cv2.warpAffine(crop, transform, (CENTRE_SIZE, CENTRE_SIZE), borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(aligned, np.uint8)
