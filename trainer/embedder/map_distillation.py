"""Distillation of a slim network from the feature maps of the published network of which it was made.

At some pointwise convolutions, a linear map predicts the output of the published network's convolution from the input
of the slim network's: `slimming.slim` has fitted the map, and training changes both. The error of a map at hundreds of
positions says more about a picture than the error of one embedding (Romero et al., "FitNets", ICLR 2015), so the slim
network adapts less to the people of few pictures. The published network processes the same changed pictures.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from trainer.configuration import ConfigError
from trainer.embedder.backbones import channels_last
from trainer.embedder.backbones.mobilenet_v1 import PUBLISHED, ConvolutionUnit, MobileNetV1
from trainer.embedder.checkpoints import read_mapping

COMPONENTS = 64
"""Random projections of a map that are compared in a step. The expected error is that of all channels."""


@dataclass(frozen=True)
class MapTargets:
    """What one batch compares.

    Attributes:
        embeddings: (N, D) of the slim network.
        published: (N, D) of the published network, of the same pictures.
        error: mean over the compared convolutions of the squared error divided by the variance of the map.
    """

    embeddings: Tensor
    published: Tensor
    error: Tensor


class MapDistillation(nn.Module):
    """Compares the maps of two networks.

    Args:
        published: it is not trained, and is not part of this module's weights.
        predictors: by the number of a pointwise convolution, from 1: the fitted map.
    """

    def __init__(self, published: MobileNetV1, predictors: dict[int, nn.Conv2d]) -> None:
        super().__init__()
        channels_last(published.eval().requires_grad_(False))
        self._published: list[MobileNetV1] = [published]  # a list, so that it is no submodule
        self.predictors = nn.ModuleDict({str(number): predictor for number, predictor in predictors.items()})

    @classmethod
    def load(cls, slim_weights: Path) -> "MapDistillation":
        """Reads what `identity-trainer slim` has written. Raises ConfigError: it is another file."""
        saved = read_mapping(slim_weights)
        if "published" not in saved or "predictors" not in saved:
            raise ConfigError(f"a loss of maps needs initial weights of `identity-trainer slim`, unlike {slim_weights}")
        published = MobileNetV1(len(saved["published"]["head.1.bias"]), widths=PUBLISHED)
        published.load_state_dict(saved["published"])
        predictors = {}
        for number, (weight, bias) in saved["predictors"].items():
            predictors[number] = nn.Conv2d(weight.shape[1], weight.shape[0], 1)
            predictors[number].load_state_dict({"weight": weight, "bias": bias})
        return cls(published, predictors)

    def _apply(self, *arguments: Any, **options: Any) -> "MapDistillation":
        self._published[0]._apply(*arguments, **options)  # type: ignore[no-untyped-call]  # moves it to the device, too
        return cast("MapDistillation", super()._apply(*arguments, **options))  # type: ignore[no-untyped-call]

    def projections(self, like: Tensor) -> list[Tensor]:
        """Returns a random projection for each compared convolution, with the type and the device of a tensor."""
        return [
            torch.randn(COMPONENTS, cast("nn.Conv2d", predictor).out_channels, dtype=like.dtype, device=like.device)
            / COMPONENTS**0.5
            for predictor in self.predictors.values()
        ]

    def forward(self, slim: MobileNetV1, pixels: Tensor, projections: Sequence[Tensor]) -> MapTargets:
        """Compares the networks on (N, 3, 112, 112) normalised pictures."""
        numbers = [int(number) for number in self.predictors]
        [published] = self._published
        with torch.no_grad():
            targets, outputs = _outputs(published, pixels, numbers)
        embeddings, inputs = _inputs(slim, pixels, numbers)
        errors = []
        for predictor, projection, x, y, number in zip(
            self.predictors.values(), projections, inputs, outputs, numbers, strict=True
        ):
            convolution = cast("nn.Conv2d", predictor)
            weight = projection @ convolution.weight[:, :, 0, 0]
            assert convolution.bias is not None
            predicted = nn.functional.conv2d(x, weight[:, :, None, None], projection @ convolution.bias)
            wanted = nn.functional.conv2d(y, projection[:, :, None, None])
            variance = _unit(published, number).norm.weight.square().sum()
            errors.append((predicted.float() - wanted.float()).square().sum(1).mean() / variance)
        return MapTargets(embeddings, targets, torch.stack(errors).mean())


def _unit(network: MobileNetV1, number: int) -> ConvolutionUnit:
    """Returns a pointwise convolution by its number, from 1."""
    return cast("ConvolutionUnit", network.features[2 * number])


def _inputs(network: MobileNetV1, x: Tensor, numbers: Sequence[int]) -> tuple[Tensor, list[Tensor]]:
    """Returns the embeddings, and the inputs of pointwise convolutions."""
    inputs = []
    for index, unit in enumerate(network.features):
        if index % 2 == 0 and index // 2 in numbers:
            inputs.append(x)
        x = unit(x)
    return network.embedding_of(x), inputs


def _outputs(network: MobileNetV1, x: Tensor, numbers: Sequence[int]) -> tuple[Tensor, list[Tensor]]:
    """Returns the embeddings, and the normalised outputs of pointwise convolutions before their activation."""
    outputs = []
    for index, layer in enumerate(network.features):
        unit = cast("ConvolutionUnit", layer)
        x = unit.norm(unit.convolution(x))
        if index % 2 == 0 and index // 2 in numbers:
            outputs.append(x)
        x = unit.activation(x)
    return network.embedding_of(x), outputs
