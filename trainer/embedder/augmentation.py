"""Augments a batch of aligned crops at once, on the training device."""

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from service.vision.filtering import apply
from service.vision.filters import Filters
from service.vision.heatmaps import MIRRORED, POINTS
from trainer.configuration import ConfigError
from trainer.embedder.aligned_crops import CENTRE, CENTRE_SIZE, CROP_SIZE
from trainer.embedder.config import EmbedderConfig
from trainer.embedder.input_config import AugmentationConfig, LandmarkChannelsConfig
from trainer.embedder.landmark_heatmaps import draw, in_centre, warped
from trainer.embedder.transforms import build_transform

NO_FILTERS = Filters()
LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue, ITU-R BT.601."""
LOW_RESOLUTION_SIDES = (28, 80)
OCCLUDED_SIDES = (16, 48)


def normalise(pictures: Tensor) -> Tensor:
    """Returns (N, 3, H, W) floats from -1 to 1 of (N, H, W, 3) uint8: (x - 127.5) / 128, as in the manifest."""
    return (pictures.permute(0, 3, 1, 2).float() - 127.5) / 128


def to_pixels(normalised: Tensor) -> Tensor:
    """Returns (N, 3, H, W) values from 0 to 1 of normalised pictures."""
    return (normalised * 128 + 127.5) / 255


def centre_tensor(crops: Tensor, size: int = CENTRE_SIZE, filters: Filters = NO_FILTERS) -> Tensor:
    """Returns the normalised centres of (N, 160, 160, 3) uint8 aligned crops as (N, 3, size, size)."""
    pixels = normalise(crops[:, CENTRE, CENTRE])
    if size != CENTRE_SIZE:
        pixels = F.interpolate(pixels, size=(size, size), mode="bilinear", antialias=True)
    return filtered(pixels, filters)


def encoder_input(crops: Tensor, landmarks: Tensor | None, config: EmbedderConfig) -> Tensor:
    """Returns the encoder's input for (N, 160, 160, 3) crops without augmentation, as the service computes it.

    Args:
        landmarks: (N, 6, 3) in pixels of the crops, for a model with landmark channels; None: unknown.
    """
    pixels = centre_tensor(crops, config.input_size, config.filters)
    if config.landmark_channels is None:
        return pixels
    count = max(config.landmark_channels.points, POINTS)
    points = torch.zeros(len(crops), count, 3, device=crops.device) if landmarks is None else landmarks
    channels = draw(in_centre(points, config.input_size), config.input_size, config.landmark_channels)
    return torch.cat([pixels, channels], 1)


def filtered(pixels: Tensor, filters: Filters) -> Tensor:
    """Applies the filters that the service applies before normalisation to normalised pictures."""
    if not filters.any:
        return pixels
    bytes_ = (to_pixels(pixels) * 255).round().clamp(0, 255).to("cpu", torch.uint8).permute(0, 2, 3, 1).numpy()
    changed = [apply(np.ascontiguousarray(picture), filters) for picture in bytes_]
    return normalise(torch.from_numpy(np.stack(changed))).to(pixels.device)


class Augmentation:
    """Changes (N, 160, 160, 3) uint8 aligned crops randomly into (N, 3, size, size) normalised pictures.

    Rotation, shift and scale imitate differences between the landmarks of detectors. Low resolution imitates faces
    that are small in their photo. Lengths in pixels refer to a picture of 112 pixels.

    Raises:
        ConfigError: As `build_transform`, or a transform moves pixels of a model with landmark channels.
    """

    def __init__(
        self,
        config: AugmentationConfig,
        size: int = CENTRE_SIZE,
        channels: LandmarkChannelsConfig | None = None,
        mirror_order: Sequence[int] = MIRRORED,
    ) -> None:
        self._config, self._size, self._channels, self._mirror_order = config, size, channels, mirror_order
        self._transforms = [(build_transform(item, size), item.probability) for item in config.transforms]
        for item, (transform, _) in zip(config.transforms, self._transforms, strict=True):
            if channels is not None and transform.moves_pixels:
                raise ConfigError(
                    f"augmentation.transforms: {item.name} moves pixels but not the landmarks of landmark_channels; "
                    "remove it, or use rotation_degrees, shift, scale and flip"
                )

    def __call__(self, crops: Tensor, landmarks: Tensor | None = None) -> Tensor:
        """Returns the changed pictures; with landmark channels if the model has them and landmarks are present.

        Args:
            landmarks: (N, P, 3) in pixels of the crops.
        """
        theta = self._draw_warp(len(crops), crops.device)
        pixels = self._recolour(self._warp(normalise(crops), theta))
        if self._channels is None or landmarks is None:
            return pixels
        points = warped(landmarks, theta, self._size, self._mirror_order)
        points[torch.rand(len(points), device=points.device) < self._channels.missing] = 0
        return torch.cat([pixels, draw(points, self._size, self._channels)], dim=1)

    def _recolour(self, pixels: Tensor) -> Tensor:
        pixels = self._lower_resolution(pixels)
        pixels = self._relight(pixels)
        pixels = self._occlude(pixels).clamp(-1, 1)
        return self._transform(pixels) if self._transforms else pixels

    def _transform(self, normalised: Tensor) -> Tensor:
        """Applies the transforms to each picture, since a transform draws one random value per call."""
        pixels = to_pixels(normalised)
        for row, picture in enumerate(pixels):
            for transform, probability in self._transforms:
                if float(torch.rand(())) < probability:
                    picture = transform(picture)
            pixels[row] = picture
        return (pixels * 255 - 127.5) / 128

    def _draw_warp(self, count: int, device: torch.device) -> Tensor:
        """Returns (count, 2, 3) random transforms from picture to aligned crop, with coordinates from -1 to 1."""
        config = self._config
        angle = _uniform(count, math.radians(config.rotation_degrees), device)
        zoom = (1 + _uniform(count, config.scale, device)) * CENTRE_SIZE / CROP_SIZE
        mirror = torch.where(torch.rand(count, device=device) < config.flip, -1.0, 1.0)
        cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
        shift = torch.stack([_uniform(count, 2 * config.shift, device) for _ in range(2)], 1) * CENTRE_SIZE / CROP_SIZE
        return torch.stack([cos * mirror, -sin, shift[:, 0], sin * mirror, cos, shift[:, 1]], 1).view(-1, 2, 3)

    def _warp(self, pictures: Tensor, theta: Tensor) -> Tensor:
        grid = F.affine_grid(theta, [len(pictures), 3, self._size, self._size], align_corners=False)
        return F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)

    def _lower_resolution(self, pixels: Tensor) -> Tensor:
        chosen = torch.rand(len(pixels)) < self._config.low_resolution
        if chosen.any():
            size = self._scaled(int(torch.randint(*LOW_RESOLUTION_SIDES, ()).item()))
            small = F.interpolate(pixels[chosen], size=(size, size), mode="bilinear", antialias=True)
            pixels[chosen] = F.interpolate(small, size=(self._size, self._size), mode="bilinear")
        return pixels

    def _relight(self, pixels: Tensor) -> Tensor:
        count, device, light = len(pixels), pixels.device, self._config.light
        contrast = 1 + _uniform(count, light, device).view(-1, 1, 1, 1)
        brightness = _uniform(count, light, device).view(-1, 1, 1, 1)
        tint = 1 + _uniform(3 * count, light / 4, device).view(-1, 3, 1, 1)
        pixels = pixels * contrast * tint + brightness
        grey = (torch.rand(count, device=device) < self._config.greyscale).view(-1, 1, 1, 1)
        luma = (pixels * torch.tensor(LUMA, device=device).view(1, 3, 1, 1)).sum(1, keepdim=True)
        return torch.where(grey, luma.expand_as(pixels), pixels)

    def _occlude(self, pixels: Tensor) -> Tensor:
        for row in torch.nonzero(torch.rand(len(pixels)) < self._config.occlusion).flatten().tolist():
            height, width = (self._scaled(side) for side in torch.randint(*OCCLUDED_SIDES, (2,)).tolist())
            top, left = (int(torch.randint(self._size - side, ())) for side in (height, width))
            pixels[row, :, top : top + height, left : left + width] = 0
        return pixels

    def _scaled(self, pixels: int) -> int:
        return max(1, pixels * self._size // CENTRE_SIZE)


def _uniform(count: int, reach: float, device: torch.device) -> Tensor:
    return (torch.rand(count, device=device) * 2 - 1) * reach
