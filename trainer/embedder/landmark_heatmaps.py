"""Draws landmark channels on the training device, for landmarks that augmentation moves with the picture."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from service.vision.heatmaps import MIRRORED, TEMPLATE_SIZE
from trainer.configuration import ConfigError
from trainer.embedder.aligned_crops import CENTRE_SIZE, CROP_SIZE

Floats = npt.NDArray[np.float32]


class ChannelSettings(Protocol):
    """Settings of the drawing, as in `LandmarkChannels`."""

    @property
    def sigma(self) -> float: ...
    @property
    def mask(self) -> bool: ...
    @property
    def points(self) -> int: ...


def mirror_order(landmarks: Floats) -> list[int]:
    """Returns the index of the point that takes the place of each point in a mirror image.

    For more than six points it is determined by the data: the mean face is mirrored, and each point is assigned to the
    nearest one.

    Args:
        landmarks: (N, P, 3) in pixels of the crops.
    """
    if landmarks.shape[1] == len(MIRRORED):
        return list(MIRRORED)
    known = landmarks[landmarks[..., 2].min(axis=1) > 0]
    if not len(known):
        raise ConfigError("the landmark finder found no face in any picture")
    mean = known[..., :2].mean(axis=0)
    mirrored = np.column_stack([2 * mean[:, 0].mean() - mean[:, 0], mean[:, 1]])
    return linear_sum_assignment(np.linalg.norm(mirrored[:, None] - mean[None], axis=2))[1].tolist()


def draw(points: Tensor, size: int, channels: ChannelSettings) -> Tensor:
    """Returns (N, channels, size, size) heatmaps of (N, P, 3) points in pixels of the model input.

    For a model that the service runs, the values equal those of `service.vision.heatmaps.render`.
    """
    sigma = channels.sigma * size / TEMPLATE_SIZE
    axis = torch.arange(size, dtype=torch.float32, device=points.device)
    known = (points[..., 2] > 0).float()
    x, y = points[:, : channels.points, 0], points[:, : channels.points, 1]
    across = torch.exp(-((axis - x[..., None]) ** 2) / (2 * sigma**2))
    down = torch.exp(-((axis - y[..., None]) ** 2) / (2 * sigma**2))
    planes = down[..., :, None] * across[..., None, :] * known[:, : channels.points, None, None]
    if not channels.mask:
        return planes
    mask = (known.amax(dim=1) > 0).float()[:, None, None, None].expand(-1, 1, size, size)
    return torch.cat([planes, mask], dim=1)


def in_centre(points: Tensor, size: int) -> Tensor:
    """Returns (N, P, 3) points of aligned crops in pixels of their centres, scaled to `size`."""
    moved = points.clone()
    moved[..., :2] = (points[..., :2] - (CROP_SIZE - CENTRE_SIZE) / 2) * (size / CENTRE_SIZE)
    return moved


def warped(points: Tensor, theta: Tensor, size: int, order: Sequence[int] = MIRRORED) -> Tensor:
    """Returns (N, P, 3) points of aligned crops in pixels of the pictures that `affine_grid` samples with `theta`.

    Args:
        theta: (N, 2, 3) transforms from the sampled picture to the aligned crop, both with coordinates from -1 to 1.
            If a transform mirrors, left and right points are swapped.
        order: see `mirror_order`.
    """
    source = (2 * points[..., :2] + 1) / CROP_SIZE - 1
    target = torch.linalg.solve(theta[:, None, :, :2], (source - theta[:, None, :, 2])[..., None]).squeeze(-1)
    moved = torch.cat([((target + 1) * size - 1) / 2, points[..., 2:]], dim=-1)
    mirrored = torch.linalg.det(theta[:, :, :2]) < 0
    return torch.where(mirrored[:, None, None], moved[:, list(order)], moved)
