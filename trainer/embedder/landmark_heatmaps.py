"""Landmarks that move with their picture, and their channels drawn on the training device."""

import torch
from torch import Tensor

from service.vision.heatmaps import MIRRORED, TEMPLATE_SIZE, LandmarkChannels
from trainer.embedder.canvases import CANVAS, CROP


def draw(points: Tensor, size: int, channels: LandmarkChannels) -> Tensor:
    """(N, channels.count, size, size) of (N, 6, 3) points in pixels of the crop, as `service.vision.heatmaps` draws."""
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


def in_middle(points: Tensor, size: int) -> Tensor:
    """(N, 6, 3) points of canvases in pixels of their middle crops, scaled to `size`."""
    moved = points.clone()
    moved[..., :2] = (points[..., :2] - (CANVAS - CROP) / 2) * (size / CROP)
    return moved


def warped(points: Tensor, theta: Tensor, size: int) -> Tensor:
    """(N, 6, 3) points of canvases in pixels of crops that `affine_grid` made by (N, 2, 3) `theta`.

    `theta` leads from the crop to the canvas, both from -1 to 1. Where it mirrors, left points become right ones.
    """
    source = (2 * points[..., :2] + 1) / CANVAS - 1
    target = torch.linalg.solve(theta[:, None, :, :2], (source - theta[:, None, :, 2])[..., None]).squeeze(-1)
    moved = torch.cat([((target + 1) * size - 1) / 2, points[..., 2:]], dim=-1)
    mirrored = torch.linalg.det(theta[:, :, :2]) < 0
    return torch.where(mirrored[:, None, None], moved[:, list(MIRRORED)], moved)
