"""Encoders from a picture of 112 x 112 to an embedding: ours, and any `torchvision.models` classifier by its name."""

from collections.abc import Callable
from typing import cast

import torch
import torchvision
from torch import Tensor, nn

from trainer.embedder.mobilefacenet import MobileFaceNet

OURS: dict[str, Callable[[int], nn.Module]] = {
    "mobilefacenet": MobileFaceNet,
    "residual_small": lambda embedding_dim: ResidualSmall(embedding_dim),
}


def build_encoder(name: str, embedding_dim: int) -> nn.Module:
    """An encoder from (N, 3, 112, 112) to (N, embedding_dim), not normalised.

    Raises:
        ValueError: neither ours nor a torchvision classification model, or one whose last layer is not linear.
    """
    if name in OURS:
        return OURS[name](embedding_dim)
    if name not in torchvision.models.list_models(module=torchvision.models):
        raise ValueError(f"unknown backbone {name!r}: {', '.join(OURS)} or a torchvision.models classification name")
    return _torchvision_encoder(name, embedding_dim)


class ResidualBlock(nn.Module):
    """Two dense 3 x 3 convolutions around a shortcut (He et al. 2016), with PReLU as usual for faces (ArcFace)."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.PReLU(channels),
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )
        self.activation = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        return cast("Tensor", self.activation(self.body(x) + self.shortcut(x)))


class ResidualSmall(nn.Module):
    """3.6 M parameters of dense 3 x 3 convolutions: about ten times faster to train on a CPU than depthwise ones."""

    WIDTHS = (32, 64, 128, 256)
    DEPTHS = (1, 2, 3, 2)

    def __init__(self, embedding_dim: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.PReLU(32)]
        channels = 32
        for width, depth in zip(self.WIDTHS, self.DEPTHS, strict=True):
            for block in range(depth):
                layers.append(ResidualBlock(channels, width, stride=2 if block == 0 else 1))
                channels = width
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(channels * 4 * 4, embedding_dim, bias=False), nn.BatchNorm1d(embedding_dim)
        )

    def forward(self, x: Tensor) -> Tensor:
        return cast("Tensor", self.head(self.features(x)))


def _torchvision_encoder(name: str, embedding_dim: int) -> nn.Module:
    options = {"aux_logits": False, "init_weights": True} if name in {"googlenet", "inception_v3"} else {}
    model = torchvision.models.get_model(name, weights=None, **options)
    linear = [(path, layer) for path, layer in model.named_modules() if isinstance(layer, nn.Linear)]
    if not linear:
        raise ValueError(f"{name} does not end in a linear layer")
    path, layer = linear[-1]
    parent, _, attribute = path.rpartition(".")
    head = nn.Sequential(
        nn.Linear(layer.in_features, embedding_dim, bias=False),
        nn.BatchNorm1d(embedding_dim),
    )
    setattr(model.get_submodule(parent) if parent else model, attribute, head)
    return cast("nn.Module", model)


def channels_last(model: nn.Module) -> nn.Module:
    """The memory layout that convolutions on CPUs and tensor cores want."""
    return model.to(memory_format=torch.channels_last)


def freeze_batch_norms(model: nn.Module) -> None:
    """Hold the statistics of batch norms; their scales and shifts go on learning. `train()` undoes it."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
