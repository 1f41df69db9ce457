"""Draws landmark channels on the training device, for landmarks that augmentation moves with the picture."""

import torch
from torch import Tensor

from service.vision.heatmaps import MIRRORED, TEMPLATE_SIZE, LandmarkChannels
from trainer.embedder.aligned_crops import CENTRE_SIZE, CROP_SIZE


def draw(points: Tensor, size: int, channels: LandmarkChannels) -> Tensor:
    """Returns (N, channels.count, size, size) heatmaps of (N, 6, 3) points in pixels of the model input.

    The values equal those of `service.vision.heatmaps.render`.
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
    """Returns (N, 6, 3) points of aligned crops in pixels of their centres, scaled to `size`."""
    moved = points.clone()
    moved[..., :2] = (points[..., :2] - (CROP_SIZE - CENTRE_SIZE) / 2) * (size / CENTRE_SIZE)
    return moved


def warped(points: Tensor, theta: Tensor, size: int) -> Tensor:
    """Returns (N, 6, 3) points of aligned crops in pixels of the pictures that `affine_grid` samples with `theta`.

    Args:
        theta: (N, 2, 3) transforms from the sampled picture to the aligned crop, both with coordinates from -1 to 1.
            If a transform mirrors, left and right points are swapped.
    """
    source = (2 * points[..., :2] + 1) / CROP_SIZE - 1
    target = torch.linalg.solve(theta[:, None, :, :2], (source - theta[:, None, :, 2])[..., None]).squeeze(-1)
    moved = torch.cat([((target + 1) * size - 1) / 2, points[..., 2:]], dim=-1)
    mirrored = torch.linalg.det(theta[:, :, :2]) < 0
    return torch.where(mirrored[:, None, None], moved[:, list(MIRRORED)], moved)
