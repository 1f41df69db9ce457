"""Reads the weights of MobileNets: published SFace, and the graph of a bundle.

SFace: Zhong et al., "SFace: sigmoid-constrained hypersphere loss for robust face recognition", IEEE TIP 2021;
weights of OpenCV Zoo, Apache-2.0.
"""

from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from trainer.configuration import ConfigError
from trainer.embedder.backbones.graph_weights import GraphWeights, require_same_output, set_folded
from trainer.embedder.backbones.mobilenet_v1 import PUBLISHED, ConvolutionUnit, MobileNetV1

DIM = 128


def load_sface(graph: Path) -> MobileNetV1:
    """Returns the network of the published ONNX file, with float or block-quantised 8-bit weights.

    Raises:
        ConfigError: The file is not a graph of this architecture, or computes something else.
    """
    weights = GraphWeights(graph)
    network = MobileNetV1(DIM, widths=PUBLISHED).eval()
    norms = [*(unit.norm for unit in _units(network)), network.norm, network.last_norm]
    try:
        for unit, (weight,), (slope,) in zip(_units(network), weights.of("Conv"), weights.of("PRelu"), strict=True):
            _copy(unit.convolution.weight, weight)
            _copy(unit.activation.weight, slope.flatten())
        for norm, values in zip(norms, weights.of("BatchNormalization"), strict=True):
            _set_norm(cast("nn.BatchNorm2d", norm), values)
        [[weight, bias]] = weights.of("Gemm")
        _set_linear(network, weight, bias)
        require_same_output(network, graph, scales_pixels=True)
    except (ValueError, RuntimeError) as error:
        raise ConfigError(f"{graph} is not published SFace: {error}") from None
    return network


def load_exported(network: MobileNetV1, graph: Path) -> None:
    """Loads the graph of a bundle. Its batch norms are folded into the convolutions and the linear layer.

    Raises:
        ValueError: The file has other weights than the network, or computes something else.
    """
    weights = GraphWeights(graph)
    *convolutions, reduction = weights.of("Conv")
    try:
        for unit, (weight, bias), (slope,) in zip(_units(network), convolutions, weights.of("PRelu"), strict=True):
            set_folded(unit.convolution, unit.norm, weight, bias)
            _copy(unit.activation.weight, slope.flatten())
        [values] = weights.of("BatchNormalization")
        _set_norm(network.norm, values)
        _copy(network.reduction.weight, reduction[0])
        [[weight, bias]] = weights.of("Gemm")
    except (ValueError, RuntimeError):
        raise ValueError(f"{graph} does not have the backbone's architecture with folded batch norms") from None
    _set_linear(network, weight, bias)
    network.last_norm.reset_running_stats()
    network.last_norm.reset_parameters()
    require_same_output(network, graph)


def _units(network: MobileNetV1) -> list[ConvolutionUnit]:
    return [unit for unit in network.features if isinstance(unit, ConvolutionUnit)]


def _copy(target: object, value: Tensor) -> None:
    parameter = cast("nn.Parameter", target)
    if parameter.shape != value.shape:
        raise ValueError(f"a weight has the shape {tuple(value.shape)} instead of {tuple(parameter.shape)}")
    with torch.no_grad():
        parameter.copy_(value)


def _set_norm(norm: nn.BatchNorm2d, values: list[Tensor]) -> None:
    for target, value in zip((norm.weight, norm.bias, norm.running_mean, norm.running_var), values, strict=True):
        _copy(target, value)


def _set_linear(network: MobileNetV1, weight: Tensor, bias: Tensor) -> None:
    _copy(network.linear.weight, weight)
    _copy(network.linear.bias, bias)
