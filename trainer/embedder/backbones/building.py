"""Builds an encoder by the name of its backbone."""

import difflib
from collections.abc import Callable, Sequence
from typing import cast

import torch
import torchvision
from torch import Tensor, nn

from trainer.configuration import ConfigError
from trainer.embedder.backbones import libraries
from trainer.embedder.backbones.channels import widen_first_convolution
from trainer.embedder.backbones.mobilefacenet import MobileFaceNet
from trainer.embedder.backbones.mobilenet_v1 import MobileNetV1
from trainer.embedder.backbones.residual import ResidualSmall
from trainer.embedder.backbones.scaling import LibraryScaling

BUILT_IN: dict[str, Callable[[int, float], nn.Module]] = {
    "mobilefacenet": MobileFaceNet,
    "mobilenet_v1_slim": MobileNetV1,
    "residual_small": ResidualSmall,
}
BUILT_IN_SIZE = 112
COLOURS = 3
PixelStatistics = tuple[Sequence[float], Sequence[float]]


class Encoder(nn.Module):
    """A library's backbone with its scaling of pixels, and a linear layer from its features to the embedding."""

    def __init__(
        self, scaling: LibraryScaling, backbone: nn.Module, features: int, embedding_dim: int, dropout: float
    ) -> None:
        super().__init__()
        self.scaling = scaling
        self.backbone = backbone
        self.head = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(features, embedding_dim, bias=False), nn.BatchNorm1d(embedding_dim)
        )

    def forward(self, x: Tensor) -> Tensor:
        return cast("Tensor", self.head(self.backbone(self.scaling(x))))


def build_encoder(
    name: str,
    embedding_dim: int,
    input_size: int = BUILT_IN_SIZE,
    dropout: float = 0.0,
    pretrained: bool | str = False,
    more_channels: int = 0,
    pixel_statistics: PixelStatistics | None = None,
) -> nn.Module:
    """Returns an encoder from (N, 3 + more_channels, input_size, input_size) to (N, embedding_dim), not normalised.

    Args:
        name: `mobilefacenet`, `residual_small`, `torchvision:<name>`, `timm:<name>`, `facenet:inception_resnet_v1`, or
            `facenet:inception_resnet_v1_512` with the library's own embedding layer.
            A name without a prefix is looked up in this order: the two built-in ones, torchvision, timm.
        pretrained: Load the weights that the library publishes: its default ones, or those with this name.
        more_channels: Input channels after red, green and blue. The first convolution starts with the mean of the
            colours' weights for each of them.
        pixel_statistics: Mean and deviation of the pixels that the backbone receives, on values of 0 to 1; None: those
            of the published weights.

    Raises:
        ConfigError: The backbone does not exist or rejects this input size, or its weights cannot be downloaded.
    """
    encoder = _build_for_colours(name, embedding_dim, input_size, dropout, pretrained, more_channels, pixel_statistics)
    if more_channels and not _is_of_timm(name):
        widen_first_convolution(encoder, more_channels)
    return encoder


def _is_of_timm(name: str) -> bool:
    """Returns True if timm builds the backbone; it builds its models with any number of input channels."""
    return name not in BUILT_IN and name != libraries.FACENET_OWN_LAYER and _library(name) is libraries.from_timm


def _build_for_colours(
    name: str,
    embedding_dim: int,
    input_size: int,
    dropout: float,
    pretrained: bool | str,
    more_channels: int,
    pixel_statistics: PixelStatistics | None,
) -> nn.Module:
    if pixel_statistics is not None and (name in BUILT_IN or name == libraries.FACENET_OWN_LAYER):
        raise ConfigError(f"{name} has a fixed scaling of pixels; remove `scaling`")
    if name == libraries.FACENET_OWN_LAYER:
        return _build_facenet(embedding_dim, input_size, pretrained, more_channels)
    if name in BUILT_IN:
        return _build_built_in(name, embedding_dim, input_size, dropout, pretrained)
    backbone, mean, deviation = _library(name)(name.rpartition(":")[2], input_size, pretrained, more_channels)
    channels = COLOURS + more_channels if _is_of_timm(name) else COLOURS
    scaling = LibraryScaling(*(pixel_statistics or (mean, deviation)), more_channels)
    return Encoder(scaling, backbone, _feature_count(name, backbone, input_size, channels), embedding_dim, dropout)


def _build_facenet(embedding_dim: int, input_size: int, pretrained: bool | str, more_channels: int) -> nn.Module:
    if embedding_dim != libraries.FACENET_DIM:
        raise ConfigError(f"{libraries.FACENET_OWN_LAYER} has embeddings of 512 numbers; set embedding_dim: 512")
    if more_channels:
        raise ConfigError(f"{libraries.FACENET_OWN_LAYER} has no landmark channels; use {libraries.FACENET}")
    return libraries.facenet_with_own_layer(input_size, pretrained)


def _build_built_in(
    name: str, embedding_dim: int, input_size: int, dropout: float, pretrained: bool | str
) -> nn.Module:
    if input_size != BUILT_IN_SIZE:
        raise ConfigError(f"{name} accepts only pictures of {BUILT_IN_SIZE} pixels; remove input_size")
    if pretrained:
        raise ConfigError(f"{name} has no weights to download; name a file of weights with --initial")
    return BUILT_IN[name](embedding_dim, dropout)


def _library(name: str) -> Callable[[str, int, bool | str, int], libraries.Built]:
    library, _, plain = name.rpartition(":")
    torchvision_names = torchvision.models.list_models(module=torchvision.models)
    if library in {"", "torchvision"} and plain in torchvision_names:
        return libraries.from_torchvision
    if library in {"", "timm"} and libraries.timm_has(plain):
        return libraries.from_timm
    if name == libraries.FACENET:
        return libraries.from_facenet
    facenet = [libraries.FACENET, libraries.FACENET_OWN_LAYER]
    known = [*BUILT_IN, *torchvision_names, *libraries.timm_names(), *facenet]
    similar = difflib.get_close_matches(plain, known, 3)
    raise ConfigError(
        f"unknown backbone {name!r}; use {', '.join(BUILT_IN)}, {libraries.FACENET}, or a classification model of "
        f"torchvision.models or timm{'; similar names: ' + ', '.join(similar) if similar else ''}"
    )


def _feature_count(name: str, backbone: nn.Module, input_size: int, channels: int) -> int:
    """Runs the backbone once to determine the number of its features."""
    training = backbone.training
    try:
        with torch.inference_mode():
            features = cast("Tensor", backbone.eval()(torch.zeros(1, channels, input_size, input_size)))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise ConfigError(f"{name} does not accept pictures of {input_size} pixels: {error}") from None
    finally:
        backbone.train(training)
    return features.shape[1]
