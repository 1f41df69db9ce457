"""Creates training samples of the refiner: crops aligned by inaccurate landmarks, with the true landmarks in them."""

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from service.vision.alignment import TEMPLATE_112, TEMPLATE_SIZE, similarity_transform
from service.vision.image import Pixels
from trainer.detector.labels import MIRRORED_ORDER
from trainer.landmarks.config import LandmarkConfig
from trainer.landmarks.faces import MARGIN, Faces

Floats = npt.NDArray[np.float32]
Sample = tuple[torch.Tensor, torch.Tensor, int]


def template(size: int) -> Floats:
    """Returns the (5, 2) positions of the landmarks in an aligned crop of `size` pixels including its margin."""
    return ((TEMPLATE_112 + MARGIN) * (size / (TEMPLATE_SIZE + 2 * MARGIN))).astype(np.float32)


class Samples(Dataset[Sample]):
    """Yields (3, size, size) uint8 crops, (5, 2) landmarks as fractions of the crop's side, and the kind.

    The crops are always aligned by inaccurate landmarks, because the refiner would otherwise learn to return the
    template.

    Args:
        augmented: each visit of a sample also mirrors it at random and changes light, resolution and occlusion. Without
            it, every visit returns the same crop.
    """

    def __init__(self, faces: Faces, config: LandmarkConfig, augmented: bool) -> None:
        self._faces, self._config, self._augmented = faces, config, augmented
        self._visits = 0

    def __len__(self) -> int:
        return len(self._faces)

    def __getitem__(self, index: int) -> Sample:
        self._visits += 1
        visit = self._visits if self._augmented else 0
        rng = np.random.default_rng((self._config.seed, index, visit))
        picture, landmarks = self._faces.pictures[index], self._faces.landmarks[index]
        if self._augmented and rng.random() < 0.5:
            picture, landmarks = mirrored(picture, landmarks)
        crop, inside = rough_crop(picture, landmarks, self._config, rng)
        if self._augmented:
            crop = augment(crop, inside, self._config, rng)
        tensor = torch.from_numpy(np.ascontiguousarray(crop.transpose(2, 0, 1)))
        points = torch.from_numpy(inside / np.float32(self._config.input_size))
        return tensor, points, int(self._faces.kinds[index])


def mirrored(picture: Pixels, points: Floats) -> tuple[Pixels, Floats]:
    """Mirrors a picture and its (5, 2) landmarks, and swaps left and right landmarks."""
    exchanged = points[MIRRORED_ORDER].copy()
    exchanged[:, 0] = picture.shape[1] - exchanged[:, 0]
    return picture[:, ::-1], exchanged


def rough_crop(
    picture: Pixels, points: Floats, config: LandmarkConfig, rng: np.random.Generator
) -> tuple[Pixels, Floats]:
    """Aligns a crop by perturbed landmarks.

    Returns:
        The (size, size, 3) crop and the (5, 2) true landmarks in its pixels.
    """
    eye_distance = float(np.linalg.norm(points[0] - points[1]))
    middle = points.mean(axis=0)
    angle = np.radians(rng.uniform(-1, 1) * config.rotation_degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * np.exp(
        rng.normal(0, config.scale)
    )
    moved = (points - middle) @ turn.T + middle + rng.normal(0, config.shift * eye_distance, 2)
    moved += rng.normal(0, config.jitter * eye_distance, moved.shape)
    size = config.input_size
    transform = similarity_transform(moved.astype(np.float32), template(size))
    crop = cv2.warpAffine(np.ascontiguousarray(picture), transform, (size, size), borderMode=cv2.BORDER_REFLECT_101)
    return crop, (points @ transform[:, :2].T + transform[:, 2]).astype(np.float32)  # type: ignore[return-value]


def augment(crop: Pixels, points: Floats, config: LandmarkConfig, rng: np.random.Generator) -> Pixels:
    """Covers a part of the face, reduces the resolution, and changes colours, contrast, brightness and noise."""
    crop = np.ascontiguousarray(crop)
    if rng.random() < config.covered:
        _cover(crop, points, rng)
    if rng.random() < config.degraded:
        factor = rng.uniform(1.5, 5)
        small = cv2.resize(crop, None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_AREA)
        crop = cv2.resize(small, crop.shape[1::-1], interpolation=cv2.INTER_LINEAR)  # type: ignore[assignment]
    values = crop.astype(np.float32)
    if rng.random() < 0.15:
        values = np.repeat(values.mean(axis=2, keepdims=True), 3, axis=2)
    gain = np.exp(rng.normal(0, 0.35)) * np.exp(rng.normal(0, 0.08, 3))
    values = (values - 127.5) * rng.uniform(0.6, 1.3) + 127.5
    values = values * gain + rng.normal(0, rng.uniform(0, 6), values.shape)
    return values.clip(0, 255).astype(np.uint8)


def _cover(crop: Pixels, points: Floats, rng: np.random.Generator) -> None:
    """Covers, in place, everything below the eyes (as a mask does) or a smaller part with random coarse colours."""
    eye_distance = max(float(np.linalg.norm(points[0] - points[1])), 4.0)
    if rng.random() < 0.4:
        top = points[:3, 1].mean() + rng.uniform(-0.1, 0.3) * eye_distance
        low = np.array([points[:, 0].min() - 0.6 * eye_distance, top])
        high = points.max(axis=0) + np.array([0.6, 0.8]) * eye_distance
    else:
        centre = points[rng.integers(len(points))] + rng.normal(0, 0.2 * eye_distance, 2)
        half = rng.uniform(0.25, 0.8, 2) * eye_distance
        low, high = centre - half, centre + half
    left, top_px = np.maximum(np.round(low).astype(int), 0)
    right, bottom = np.minimum(np.round(high).astype(int), crop.shape[0])
    if right - left < 2 or bottom - top_px < 2:
        return
    coarse = rng.integers(0, 256, 3) + rng.normal(0, rng.uniform(2, 60), (3, 3, 3))
    patch = cv2.resize(coarse.clip(0, 255).astype(np.uint8), (int(right - left), int(bottom - top_px)))
    crop[top_px:bottom, left:right] = patch
