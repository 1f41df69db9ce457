"""An encoder by the name of its backbone."""

import difflib
from collections.abc import Callable
from typing import cast

import torch
import torchvision
from torch import Tensor, nn

from trainer.configuration import ConfigError
from trainer.embedder.backbones import libraries
from trainer.embedder.backbones.channels import widen_first_convolution
from trainer.embedder.backbones.mobilefacenet import MobileFaceNet
from trainer.embedder.backbones.residual import ResidualSmall

OURS: dict[str, Callable[[int, float], nn.Module]] = {"mobilefacenet": MobileFaceNet, "residual_small": ResidualSmall}
OUR_SIZE = 112


class Encoder(nn.Module):
    """A library's backbone, and a head that makes the embedding of its features."""

    def __init__(self, backbone: nn.Module, features: int, embedding_dim: int, dropout: float) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(features, embedding_dim, bias=False), nn.BatchNorm1d(embedding_dim)
        )

    def forward(self, x: Tensor) -> Tensor:
        return cast("Tensor", self.head(self.backbone(x)))


def build_encoder(
    name: str,
    embedding_dim: int,
    input_size: int = OUR_SIZE,
    dropout: float = 0.0,
    pretrained: bool = False,
    more_channels: int = 0,
) -> nn.Module:
    """An encoder from (N, 3 + more_channels, input_size, input_size) to (N, embedding_dim), not normalised.

    Args:
        name: `mobilefacenet` or `residual_small`; `torchvision:<name>`, `timm:<name>` or `facenet:inception_resnet_v1`;
            a name alone is looked for among ours, then in torchvision, then in timm.
        pretrained: with the weights that the library publishes for it.
        more_channels: that follow the colours; the first convolution begins with the colours' mean for each.

    Raises:
        ConfigError: no such backbone, one that doesn't take such pictures, or weights that can't be had.
    """
    encoder = _of_colours(name, embedding_dim, input_size, dropout, pretrained)
    if more_channels:
        widen_first_convolution(encoder, more_channels)
    return encoder


def _of_colours(name: str, embedding_dim: int, input_size: int, dropout: float, pretrained: bool) -> nn.Module:
    if name in OURS:
        return _ours(name, embedding_dim, input_size, dropout, pretrained)
    backbone = _library(name)(name.rpartition(":")[2], input_size, pretrained)
    return Encoder(backbone, _width(name, backbone, input_size), embedding_dim, dropout)


def _ours(name: str, embedding_dim: int, input_size: int, dropout: float, pretrained: bool) -> nn.Module:
    if input_size != OUR_SIZE:
        raise ConfigError(f"{name} takes pictures of {OUR_SIZE} pixels: leave input_size out")
    if pretrained:
        raise ConfigError(f"{name} has no published weights to download: name a file of weights with --initial")
    return OURS[name](embedding_dim, dropout)


def _library(name: str) -> Callable[[str, int, bool], nn.Module]:
    library, _, plain = name.rpartition(":")
    torchvision_names = torchvision.models.list_models(module=torchvision.models)
    if library in {"", "torchvision"} and plain in torchvision_names:
        return libraries.from_torchvision
    if library in {"", "timm"} and libraries.timm_has(plain):
        return libraries.from_timm
    if name == libraries.FACENET:
        return libraries.from_facenet
    near = difflib.get_close_matches(plain, [*OURS, *torchvision_names, *libraries.timm_names(), libraries.FACENET], 3)
    raise ConfigError(
        f"unknown backbone {name!r}: {', '.join(OURS)}, {libraries.FACENET}, or a classification model of "
        f"torchvision.models or timm{'; near: ' + ', '.join(near) if near else ''}"
    )


def _width(name: str, backbone: nn.Module, input_size: int) -> int:
    """How many features one picture of this size comes out as."""
    training = backbone.training
    try:
        with torch.inference_mode():
            features = cast("Tensor", backbone.eval()(torch.zeros(1, 3, input_size, input_size)))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise ConfigError(f"{name} doesn't take pictures of {input_size} pixels: {error}") from None
    finally:
        backbone.train(training)
    return features.shape[1]
