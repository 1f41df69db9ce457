"""Random changes to a batch of canvases, made at once for the whole batch on the training device."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.embedder.canvases import CANVAS
from trainer.embedder.config import AugmentationConfig

CROP = 112
GREY = (0.299, 0.587, 0.114)
"""Luma weights of ITU-R BT.601."""


def normalise(pictures: Tensor) -> Tensor:
    """(N, H, W, 3) uint8 to (N, 3, H, W) float in about -1...1: (x - 127.5) / 128, as the bundle's manifest says."""
    return (pictures.permute(0, 3, 1, 2).float() - 127.5) / 128


def centre_crop(canvases: Tensor) -> Tensor:
    """The aligned crop in the middle of (N, 160, 160, 3)."""
    margin = (CANVAS - CROP) // 2
    return canvases[:, margin : margin + CROP, margin : margin + CROP]


class Augmentation:
    """(N, 160, 160, 3) uint8 canvases to (N, 3, 112, 112) float crops, each changed in its own way.

    Rotation, shift and scale imitate how far one detector's landmarks lie from another's; low resolution imitates
    faces that were small in their photo.
    """

    def __init__(self, config: AugmentationConfig) -> None:
        self._config = config

    def __call__(self, canvases: Tensor) -> Tensor:
        crops = self._warp(normalise(canvases))
        crops = self._lower_resolution(crops)
        crops = self._relight(crops)
        return self._occlude(crops).clamp(-1, 1)

    def _warp(self, pictures: Tensor) -> Tensor:
        config, count, device = self._config, len(pictures), pictures.device
        angle = _uniform(count, math.radians(config.rotation_degrees), device)
        zoom = (1 + _uniform(count, config.scale, device)) * CROP / CANVAS
        mirror = torch.where(torch.rand(count, device=device) < config.flip, -1.0, 1.0)
        cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
        shift = torch.stack([_uniform(count, 2 * config.shift, device) for _ in range(2)], 1) * CROP / CANVAS
        rows = torch.stack([cos * mirror, -sin, shift[:, 0], sin * mirror, cos, shift[:, 1]], 1)
        grid = F.affine_grid(rows.view(-1, 2, 3), [count, 3, CROP, CROP], align_corners=False)
        return F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)

    def _lower_resolution(self, crops: Tensor) -> Tensor:
        chosen = torch.rand(len(crops)) < self._config.low_resolution
        if chosen.any():
            size = int(torch.randint(28, 80, ()).item())
            small = F.interpolate(crops[chosen], size=(size, size), mode="bilinear", antialias=True)
            crops[chosen] = F.interpolate(small, size=(CROP, CROP), mode="bilinear")
        return crops

    def _relight(self, crops: Tensor) -> Tensor:
        count, device, light = len(crops), crops.device, self._config.light
        contrast = 1 + _uniform(count, light, device).view(-1, 1, 1, 1)
        brightness = _uniform(count, light, device).view(-1, 1, 1, 1)
        tint = 1 + _uniform(3 * count, light / 4, device).view(-1, 3, 1, 1)
        crops = crops * contrast * tint + brightness
        grey = (torch.rand(count, device=device) < self._config.greyscale).view(-1, 1, 1, 1)
        luma = (crops * torch.tensor(GREY, device=device).view(1, 3, 1, 1)).sum(1, keepdim=True)
        return torch.where(grey, luma.expand_as(crops), crops)

    def _occlude(self, crops: Tensor) -> Tensor:
        for row in torch.nonzero(torch.rand(len(crops)) < self._config.occlusion).flatten().tolist():
            height, width = torch.randint(16, 48, (2,)).tolist()
            top, left = int(torch.randint(CROP - height, ())), int(torch.randint(CROP - width, ()))
            crops[row, :, top : top + height, left : left + width] = 0
        return crops


def _uniform(count: int, reach: float, device: torch.device) -> Tensor:
    return (torch.rand(count, device=device) * 2 - 1) * reach
