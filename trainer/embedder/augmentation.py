"""Random changes to a batch of canvases, made at once for the whole batch on the training device."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms import v2

from service.vision.filtering import apply
from service.vision.filters import Filters
from service.vision.heatmaps import POINTS
from trainer.configuration import ConfigError
from trainer.embedder.canvases import CANVAS, CROP, MIDDLE
from trainer.embedder.config import AugmentationConfig, EmbedderConfig, LandmarkChannelsConfig, TransformConfig
from trainer.embedder.landmark_heatmaps import draw, in_middle, warped

NO_FILTERS = Filters()
GREY = (0.299, 0.587, 0.114)
"""Luma weights of ITU-R BT.601."""


def normalise(pictures: Tensor) -> Tensor:
    """(N, H, W, 3) uint8 to (N, 3, H, W) float in about -1...1: (x - 127.5) / 128, as the bundle's manifest says."""
    return (pictures.permute(0, 3, 1, 2).float() - 127.5) / 128


def to_pixels(normalised: Tensor) -> Tensor:
    """What `normalise` was given, as (N, 3, H, W) of 0...1."""
    return (normalised * 128 + 127.5) / 255


def middle(canvases: Tensor, size: int = CROP, filters: Filters = NO_FILTERS) -> Tensor:
    """The aligned crops in the middle of (N, 160, 160, 3) uint8 canvases as (N, 3, size, size), not changed."""
    crops = normalise(canvases[:, MIDDLE, MIDDLE])
    if size != CROP:
        crops = F.interpolate(crops, size=(size, size), mode="bilinear", antialias=True)
    return filtered(crops, filters)


def encoder_input(canvases: Tensor, landmarks: Tensor | None, config: EmbedderConfig) -> Tensor:
    """What the encoder of a configuration sees of canvases that are not changed, as the service would show it."""
    crops = middle(canvases, config.input_size, config.filters)
    if config.landmark_channels is None:
        return crops
    points = torch.zeros(len(canvases), POINTS, 3, device=canvases.device) if landmarks is None else landmarks
    return torch.cat(
        [crops, draw(in_middle(points, config.input_size), config.input_size, config.landmark_channels)], 1
    )


def filtered(crops: Tensor, filters: Filters) -> Tensor:
    """Normalised crops with what the service does to them before it scales their values."""
    if not filters.any:
        return crops
    pixels = (to_pixels(crops) * 255).round().clamp(0, 255).to("cpu", torch.uint8).permute(0, 2, 3, 1).numpy()
    done = [apply(np.ascontiguousarray(picture), filters) for picture in pixels]
    return normalise(torch.from_numpy(np.stack(done))).to(crops.device)


class Augmentation:
    """(N, 160, 160, 3) uint8 canvases to (N, 3, size, size) float crops, each changed in its own way.

    Rotation, shift and scale imitate how far one detector's landmarks lie from another's; low resolution imitates
    faces that were small in their photo. Lengths in pixels are of a crop of 112.

    Raises:
        ConfigError: torchvision has no such transform, or not with such arguments.
    """

    def __init__(
        self,
        config: AugmentationConfig,
        size: int = CROP,
        filters: Filters = NO_FILTERS,
        channels: LandmarkChannelsConfig | None = None,
    ) -> None:
        self._config, self._size, self._filters, self._channels = config, size, filters, channels
        self._transforms = [(_transform(item, size), item.probability) for item in config.transforms]
        if channels is not None:
            for transform, _ in self._transforms:
                _require_still(transform)

    def __call__(self, canvases: Tensor, landmarks: Tensor | None = None) -> Tensor:
        """The changed crops, with the channels of their (N, 6, 3) landmarks where the model wants such."""
        theta = self._draw_warp(len(canvases), canvases.device)
        crops = self._recolour(self._warp(normalise(canvases), theta))
        if self._channels is None or landmarks is None:
            return crops
        points = warped(landmarks, theta, self._size)
        points[torch.rand(len(points), device=points.device) < self._channels.missing] = 0
        return torch.cat([crops, draw(points, self._size, self._channels)], dim=1)

    def _recolour(self, crops: Tensor) -> Tensor:
        crops = self._lower_resolution(crops)
        crops = self._relight(crops)
        crops = self._occlude(crops).clamp(-1, 1)
        return filtered(self._transform(crops) if self._transforms else crops, self._filters)

    def _transform(self, crops: Tensor) -> Tensor:
        """Picture by picture, since these transforms draw once for all that they are given."""
        pixels = to_pixels(crops)
        for row, picture in enumerate(pixels):
            for transform, probability in self._transforms:
                if float(torch.rand(())) < probability:
                    picture = transform(picture)
            pixels[row] = picture
        return (pixels * 255 - 127.5) / 128

    def _draw_warp(self, count: int, device: torch.device) -> Tensor:
        """(count, 2, 3) from crop to canvas, both from -1 to 1."""
        config = self._config
        angle = _uniform(count, math.radians(config.rotation_degrees), device)
        zoom = (1 + _uniform(count, config.scale, device)) * CROP / CANVAS
        mirror = torch.where(torch.rand(count, device=device) < config.flip, -1.0, 1.0)
        cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
        shift = torch.stack([_uniform(count, 2 * config.shift, device) for _ in range(2)], 1) * CROP / CANVAS
        return torch.stack([cos * mirror, -sin, shift[:, 0], sin * mirror, cos, shift[:, 1]], 1).view(-1, 2, 3)

    def _warp(self, pictures: Tensor, theta: Tensor) -> Tensor:
        grid = F.affine_grid(theta, [len(pictures), 3, self._size, self._size], align_corners=False)
        return F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)

    def _lower_resolution(self, crops: Tensor) -> Tensor:
        chosen = torch.rand(len(crops)) < self._config.low_resolution
        if chosen.any():
            size = self._scaled(int(torch.randint(28, 80, ()).item()))
            small = F.interpolate(crops[chosen], size=(size, size), mode="bilinear", antialias=True)
            crops[chosen] = F.interpolate(small, size=(self._size, self._size), mode="bilinear")
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
            height, width = (self._scaled(side) for side in torch.randint(16, 48, (2,)).tolist())
            top, left = (int(torch.randint(self._size - side, ())) for side in (height, width))
            crops[row, :, top : top + height, left : left + width] = 0
        return crops

    def _scaled(self, pixels: int) -> int:
        return max(1, pixels * self._size // CROP)


def _transform(item: TransformConfig, size: int) -> v2.Transform:
    kind = getattr(v2, item.name, None)
    if not (isinstance(kind, type) and issubclass(kind, v2.Transform)):
        raise ConfigError(f"augmentation.transforms: torchvision.transforms.v2 has no {item.name!r}")
    try:
        transform = kind(**item.arguments)
        with torch.random.fork_rng(devices=[]):
            same = transform(torch.rand(3, size, size)).shape == (3, size, size)
    except (TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise ConfigError(f"augmentation.transforms: {item.name}: {error}") from None
    if not same:
        raise ConfigError(f"augmentation.transforms: {item.name} changes the size of a picture")
    return transform


def _require_still(transform: v2.Transform) -> None:
    """Landmarks would stay where they are."""
    if type(transform).__module__.endswith("._geometry"):
        name = type(transform).__name__
        raise ConfigError(f"augmentation.transforms: {name} moves pixels, and landmark_channels would not move along")


def _uniform(count: int, reach: float, device: torch.device) -> Tensor:
    return (torch.rand(count, device=device) * 2 - 1) * reach
