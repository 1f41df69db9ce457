"""Restores trainable batch normalisations that an export has folded into the convolutions before them."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn

from trainer.half_storage import SUFFIX


def read_weights(graph: Path) -> dict[str, torch.Tensor]:
    """Returns the weights of an ONNX graph in float32, by the names that they had before storage in float16."""
    return {
        tensor.name.removesuffix(SUFFIX): torch.from_numpy(numpy_helper.to_array(tensor).astype(np.float32))
        for tensor in onnx.load(graph).graph.initializer
        if tensor.data_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
    }


def add_only(layer: nn.BatchNorm2d, bias: torch.Tensor) -> None:
    """Makes a layer, in evaluation mode, add the bias that was folded into the convolution before it."""
    with torch.no_grad():
        _set_statistics(layer, torch.zeros(1), torch.tensor(1 - layer.eps))
        layer.weight.fill_(1)
        layer.bias.copy_(bias)


def observe(layers: Iterable[nn.BatchNorm2d]) -> "list[ChannelMoments]":
    """Accumulates the statistics of the layers' inputs until `apply` is called."""
    return [ChannelMoments(layer) for layer in layers]


def apply(observed: "Sequence[ChannelMoments]") -> None:
    """Sets the statistics of each layer, and its scale and shift so that its output stays the same.

    A training step, which normalises by the statistics of its batch, then starts close to the exported graph.
    """
    for moments in observed:
        moments.apply()


class ChannelMoments:
    """Accumulates mean and variance of each input channel of a layer through a forward hook."""

    def __init__(self, layer: nn.BatchNorm2d) -> None:
        self._layer = layer
        self._count = 0
        self._sum = torch.zeros(layer.num_features, dtype=torch.float64)
        self._squares = torch.zeros(layer.num_features, dtype=torch.float64)
        self._hook = layer.register_forward_pre_hook(self._accumulate)

    def _accumulate(self, _: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        values = inputs[0].double()
        self._count += values.numel() // values.shape[1]
        self._sum += values.sum(dim=(0, 2, 3))
        self._squares += values.square().sum(dim=(0, 2, 3))

    def apply(self) -> None:
        self._hook.remove()
        if not self._count:
            return
        layer, mean = self._layer, self._sum / self._count
        variance = (self._squares / self._count - mean.square()).clamp_min(0)
        with torch.no_grad():
            _set_statistics(layer, mean, variance)
            layer.weight.copy_((variance + layer.eps).sqrt())
            layer.bias.add_(mean.float())


def _set_statistics(layer: nn.BatchNorm2d, mean: torch.Tensor, variance: torch.Tensor) -> None:
    assert layer.running_mean is not None
    assert layer.running_var is not None
    layer.running_mean.copy_(mean)
    layer.running_var.copy_(variance)
