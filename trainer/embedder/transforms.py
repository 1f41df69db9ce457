"""Transforms of torchvision.transforms.v2 or Albumentations behind one interface."""

import os
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import v2

from trainer.configuration import ConfigError, missing_package
from trainer.embedder.input_config import TransformConfig

KEY = "augmentation.transforms"
LARGEST_SEED = 2**31


class PictureTransform(Protocol):
    """Changes a (3, H, W) picture with values from 0 to 1. Its random numbers depend on torch's generator alone.

    Attributes:
        moves_pixels: landmarks of the picture would have to be moved with it.
    """

    moves_pixels: bool

    def __call__(self, picture: Tensor) -> Tensor: ...


def build_transform(item: TransformConfig, size: int) -> PictureTransform:
    """Builds a transform and applies it once to a picture of `size` pixels.

    Raises:
        ConfigError: The library is not installed or has no such transform, or the transform rejects its arguments or
            changes the size of a picture.
    """
    try:
        transform = _BUILDERS[item.library](item)
        with torch.random.fork_rng(devices=[]):
            keeps_size = transform(torch.rand(3, size, size)).shape == (3, size, size)
    except (TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise error if isinstance(error, ConfigError) else ConfigError(f"{KEY}: {item.name}: {error}") from None
    if not keeps_size:
        raise ConfigError(f"{KEY}: {item.name} changes the size of a picture; remove it")
    return transform


class _Torchvision:
    def __init__(self, item: TransformConfig) -> None:
        kind = getattr(v2, item.name, None)
        if not (isinstance(kind, type) and issubclass(kind, v2.Transform)):
            raise ConfigError(f"{KEY}: torchvision.transforms.v2 has no {item.name!r}")
        self._transform = kind(**item.arguments)
        self.moves_pixels = kind.__module__.endswith("._geometry")

    def __call__(self, picture: Tensor) -> Tensor:
        changed: Tensor = self._transform(picture)
        return changed


class _Albumentations:
    """Converts to bytes, on which all transforms of Albumentations are defined."""

    def __init__(self, item: TransformConfig) -> None:
        os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # no request to the internet when it is imported
        try:
            import albumentations
        except ImportError:
            raise missing_package("library: albumentations", "albumentations") from None
        kind: Any = getattr(albumentations, item.name, None)
        if not (isinstance(kind, type) and issubclass(kind, albumentations.BasicTransform)):
            raise ConfigError(f"{KEY}: albumentations has no {item.name!r}")
        # `probability` of the configuration decides whether the transform is applied.
        self._transform: Any = albumentations.Compose([kind(**{"p": 1.0} | item.arguments)])
        self.moves_pixels = issubclass(kind, albumentations.DualTransform)

    def __call__(self, picture: Tensor) -> Tensor:
        pixels = (picture * 255).round().clamp(0, 255).to("cpu", torch.uint8).permute(1, 2, 0).numpy()
        self._transform.set_random_seed(int(torch.randint(LARGEST_SEED, ())))
        changed = self._transform(image=np.ascontiguousarray(pixels))["image"]
        return torch.from_numpy(np.ascontiguousarray(changed)).permute(2, 0, 1).to(picture) / 255


_BUILDERS: dict[str, Callable[[TransformConfig], PictureTransform]] = {
    "torchvision": _Torchvision,
    "albumentations": _Albumentations,
}
